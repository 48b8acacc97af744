"""Moves finished events (with their deliveries, attempts and copies) and the audit from Redis to the archive.

They are first written to the archive, under their ids. Then they are removed from Redis: events by a script
that leaves those that have changed since they were read. If the process is killed between, they are in both:
Redis then says what is shown, and the next round writes them again. Nothing is removed from Redis that the
archive has not confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from shared.errors import ArchiveBusy
from shared.process.threads import in_thread
from shared.secrets import Secret
from shared.store.audit import oldest, remove
from shared.store.client import RedisClient
from shared.store.finished import Batch, Finished

if TYPE_CHECKING:  # see Archiving._opened
    from shared.archive.writer import Refused, Writer

AT_ONCE = 200
REFUSED_MOST = 10_000


class Moved(msgspec.Struct, frozen=True):
    """How many events and copies are archived. `more`: there may be more to move."""

    count: int
    more: bool


class Archiving:
    """Moves events to one archive. All methods raise StoreUnavailable and ArchiveUnavailable."""

    def __init__(self, client: RedisClient, url: str, keys: Sequence[Secret] = ()) -> None:
        """`keys` are `archive.encryption_keys`."""
        self._client = client
        self._finished = Finished(client)
        self._url, self._keys = url, keys
        self._writer: Writer | None = None
        self.refused: dict[str, str] = {}
        """Events that the archive cannot take, which stay in Redis, and why. They are tried again at a
        restart.
        """

    async def _opened(self) -> Writer:
        # Importing SQLAlchemy takes a quarter of a second, and only the worker with the duty needs it.
        if self._writer is None:
            self._writer = await in_thread(_open, self._url, self._keys)
        return self._writer

    async def take_up(self) -> None:
        """Bring the archive's schema up to date. Raises: ArchiveUnfit, if a later version of Headrace made
        it.
        """
        writer = await self._opened()
        await in_thread(writer.take_up)

    async def move(self, before_ms: int) -> Moved:
        """Move the oldest events and copies that came in before a time, about AT_ONCE, and the oldest entries
        of the audit.
        """
        moved = Moved(0, False)
        if (await self._finished.backlog(before_ms)).records > len(self.refused):
            moved = await self._move_events(before_ms)
        audited = await self._move_audit(before_ms)
        return Moved(moved.count, moved.more or audited)

    async def _move_events(self, before_ms: int) -> Moved:
        writer = await self._opened()
        turn = await in_thread(writer.begin_turn)
        batch = await self._finished.oldest(before_ms, AT_ONCE, frozenset(self.refused))
        try:
            refused = await in_thread(writer.write, batch.events, batch.copies, turn)
        except ArchiveBusy:  # this worker stood still, and another one has moved on
            return Moved(0, False)
        self._note(refused)
        names = {each.id for each in refused}
        written = Batch(read=[args for args in batch.read if args[0] not in names])
        return Moved(await self._finished.remove(written), bool(batch.read))

    async def _move_audit(self, before_ms: int) -> bool:
        """Move the oldest entries of the audit. Returns whether there were any."""
        entries = await oldest(self._client, before_ms)
        if entries:
            writer = await self._opened()
            await in_thread(writer.audit.write, entries)
            await remove(self._client, entries)
        return bool(entries)

    def _note(self, refused: list[Refused]) -> None:
        self.refused |= {each.id: each.why for each in refused}
        while len(self.refused) > REFUSED_MOST:
            self.refused.pop(next(iter(self.refused)))

    def close(self) -> None:
        """Close the connections to the archive."""
        if self._writer is not None:
            self._writer.close()


def _open(url: str, keys: Sequence[Secret]) -> Writer:
    from shared.archive.database import Database
    from shared.archive.writer import Writer

    return Writer(Database(url, keys, keep_open=True))
