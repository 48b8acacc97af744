"""Keeping: removes from the archive what is older than `archive.keep`, or the `keep` of its source.

One worker at a time does it, apart from the one that moves events there: neither waits for the other for
longer than one short step.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from shared.errors import ArchiveUnavailable, StoreUnavailable
from shared.operations.expiring import Expiring
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.duties import Duty
from shared.store.keys import names_digest

if TYPE_CHECKING:  # it needs SQLAlchemy
    from shared.archive.expiry import Removed

log = structlog.get_logger()

LEASE_MS = 10_000
LOOK_S = 1.0
EVERY_S = 3600.0
AFTER_ERROR_S = 60.0
SHARE = 0.25  # the most of the time that steps take


class Keeper:
    """Removes what is too old while this worker has the duty: at its start, and then once an hour."""

    def __init__(self, config: Config, worker: str, client: RedisClient) -> None:
        self._client = client
        self._duty = Duty(client, "keep", worker, lease_ms=LEASE_MS)
        self._expiring: Expiring | None = None
        self._removed: list[Removed] = []
        self._error = ""
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration, and look at all that is archived anew."""
        self._names = names_digest(
            [source.name for source in config.sources], [target.name for target in config.targets]
        )
        self.close()
        self._expiring = Expiring(config) if config.archive.url else None
        self._next_at = 0.0

    async def run(self) -> None:
        """Remove what may be removed, until cancelled."""
        while True:
            pause_s = LOOK_S
            try:
                # The duty is kept between two passes: else each worker would make one an hour.
                mine = self._expiring is not None and await self._duty.mine(self._names)
                if mine and monotonic() >= self._next_at:
                    pause_s = await self.round()
            except StoreUnavailable:
                pass  # the sweep logs that
            except Exception as error:  # the next round may not meet it
                log.error("removing from the archive failed", error=type(error).__name__, reason=str(error))
                self._next_at = monotonic() + AFTER_ERROR_S
            await asyncio.sleep(pause_s)

    async def round(self) -> float:
        """Take a step. Returns the seconds until the next one. Raises: StoreUnavailable."""
        expiring, began = self._expiring, monotonic()
        if expiring is None:
            return LOOK_S
        try:
            removed = await expiring.step(await now_ms(self._client))
        except ArchiveUnavailable as error:
            self._say()
            if str(error) != self._error:
                self._error = str(error)
                log.error("nothing is removed from the archive now", reason=self._error)
            self._next_at = monotonic() + AFTER_ERROR_S
            return LOOK_S
        if removed is None or (self._removed and self._removed[0].month != removed.month):
            self._say()
        if removed is None:
            self._error = ""
            if expiring is self._expiring:  # else the configuration has changed meanwhile
                self._next_at = monotonic() + EVERY_S
            return LOOK_S
        self._removed.append(removed)
        return (monotonic() - began) * (1 / SHARE - 1)

    def _say(self) -> None:
        """Log what was removed of a month, or of the audit."""
        steps, self._removed = self._removed, []
        counts = {
            "events": sum(step.events for step in steps),
            "copies": sum(step.copies for step in steps),
            "audit_entries": sum(step.entries for step in steps),
        }
        dropped = any(step.dropped for step in steps)
        if dropped or any(counts.values()):
            month = steps[0].month
            log.info(
                "removed from the archive what is older than it keeps",
                month=None if month is None else month.name.replace("_", "-"),
                **counts,
                whole_month=dropped,
            )

    def close(self) -> None:
        """Close the connections to the archive."""
        if self._expiring is not None:
            self._expiring.close()
