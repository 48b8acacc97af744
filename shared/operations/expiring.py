"""Removing from the archive what is older than `keep` says, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.archive.months import month_at
from shared.process.threads import in_thread
from shared.settings import Config

if TYPE_CHECKING:  # as for Archiving: only the worker with the duty needs SQLAlchemy
    from shared.archive.database import Database
    from shared.archive.expiry import Removed


class Expiring:
    """Goes through the archive of a configuration, again and again."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._database: Database | None = None
        self._steps: Iterator[Removed] | None = None

    async def step(self, now_ms: int) -> Removed | None:
        """Take one short step; None: it was the last one, and the next call begins anew.

        Raises: ArchiveUnavailable; the next call begins anew then, too.
        """
        steps, self._steps = self._steps, None
        if steps is None:
            steps = await in_thread(self._begin, now_ms)
        removed: Removed | None = await in_thread(next, steps, None)
        self._steps = None if removed is None else steps
        return removed

    def _begin(self, now_ms: int) -> Iterator[Removed]:
        from shared.archive.database import Database
        from shared.archive.expiry import Expiry, Keep

        archive = self._config.archive
        if self._database is None:
            self._database = Database(archive.url, archive.encryption_keys)
        own = {source.name: source.keep for source in self._config.sources if source.keep is not None}
        keep = Keep(archive.keep, own)
        return Expiry(self._database).steps(keep, month_at(now_ms))

    def close(self) -> None:
        """Close the connections to the archive."""
        if self._database is not None:
            self._database.close()
