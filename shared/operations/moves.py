"""Moves dead letters from Redis to the disk, and removes those there that have expired.

A letter is first written to the disk, in a row that has the name of the move. Then one script takes it out of
Redis. Then the row is marked as arrived. If the process is killed between, the letter is in at least one of
the two places. While a row has the name of a move, Redis decides where the letter is: it is on the disk if
Redis has no record of the event, or if its delivery has ended as `disk`. So it is shown once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from shared.archive.letter import StoredLetter
from shared.delivery.verdicts import Reason
from shared.operations.archived import Archived
from shared.operations.disk import archive_at, path_of
from shared.settings import ArchiveSettings
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.letters import Letters
from shared.store.walk import Position

if TYPE_CHECKING:  # see Moves._opened
    from shared.archive.dead_letters import DeadLetterFile
    from shared.archive.reader import Reader

ENTRY_BYTES = 1500  # about what Redis needs for an event besides its payload
STALE_MS = 120_000
EXPIRE_AT_ONCE = 500


class Moved(msgspec.Struct, frozen=True):
    """How many were moved.

    `bytes` is about how much memory that frees in Redis; `more`: there may be more to move.
    """

    letters: int
    bytes: int
    more: bool


class Moves:
    """Moves dead letters to one file. All methods raise StoreUnavailable and ArchiveUnavailable."""

    def __init__(self, client: RedisClient, url: str, archive: ArchiveSettings | None = None) -> None:
        """`url` is that of the file; `archive` names the archive of events, if there is one."""
        self._client = client
        self._letters = Letters(client)
        self._url = url
        self._archive = archive
        self.path = path_of(url)
        self._file: DeadLetterFile | None = None
        self._walked: dict[str, Position | None] = {}

    async def _opened(self) -> DeadLetterFile:
        # Importing SQLAlchemy takes a quarter of a second, and most workers never need it.
        if self._file is None:
            self._file = await asyncio.to_thread(_open, self._url)
        return self._file

    async def _reader(self) -> Reader | None:
        return None if self._archive is None else await asyncio.to_thread(archive_at, self._archive)

    async def dead_letters(self, target: str, *, hold: bool) -> Moved:
        """Move the oldest dead letters of a target."""
        found = await self._letters.dead(target)
        if not found:
            await self._letters.drop_orphans(target)
        return await self._move(target, found, waited=False, hold=hold, more=bool(found))

    async def what_waits(self, target: str, why: Reason, *, hold: bool) -> Moved:
        """Turn what has waited longest for a target into dead letters on the disk, for the reason `why`."""
        after = self._walked.get(target)
        found, self._walked[target] = await self._letters.waiting(
            target, after, await now_ms(self._client), why
        )
        more = self._walked[target] is not None or after is not None
        return await self._move(target, found, waited=True, hold=hold, more=more)

    async def _move(
        self, target: str, found: Sequence[StoredLetter], *, waited: bool, hold: bool, more: bool
    ) -> Moved:
        if not found:
            return Moved(0, 0, more)
        file, move = await self._opened(), new_move(await now_ms(self._client))
        await asyncio.to_thread(file.add, found, move)
        results = await self._letters.take_out(target, found, waited=waited, hold=hold)
        outcome = {letter.key: result for letter, result in zip(found, results, strict=True)}
        # If the event is gone, the disk has the only record of it.
        here = [key for key, result in outcome.items() if result != "changed"]
        await asyncio.to_thread(file.arrived, here, move)
        if changed := [key for key, result in outcome.items() if result == "changed"]:
            await asyncio.to_thread(file.drop, changed, move)
        left = [letter for letter in found if outcome[letter.key] == "left"]
        return Moved(len(left), sum(map(size_of, left)), more)

    async def tidy(self) -> None:
        """Settle rows whose move broke off: keep those whose letter is on the disk, and drop the others."""
        if not self.path.exists():
            return
        file = await self._opened()
        before = move_name(await now_ms(self._client) - STALE_MS)
        stale = await asyncio.to_thread(file.moving, before)
        if not stale:
            return
        here = await self._letters.on_disk(stale)
        for letter, is_here in zip(stale, here, strict=True):
            end = file.arrived if is_here else file.drop
            await asyncio.to_thread(end, [letter.key], letter.moving)

    async def expire(self, before_ms: int) -> int:
        """Remove at most EXPIRE_AT_ONCE letters that died before a time. Returns how many."""
        if not self.path.exists():
            return 0
        file = await self._opened()
        old = await asyncio.to_thread(file.expired, before_ms, EXPIRE_AT_ONCE)
        for target in dict.fromkeys(letter.target for letter in old):
            mine = [letter for letter in old if letter.target == target]
            await self._letters.end(target, mine, "expired")
            if (reader := await self._reader()) is not None:
                await Archived(reader).end(target, [letter.id for letter in mine], "expired")
        if old:
            await asyncio.to_thread(file.remove, old)
        return len(old)


def _open(url: str) -> DeadLetterFile:
    from shared.archive.dead_letters import DeadLetterFile

    return DeadLetterFile(url)


def new_move(now_ms: int) -> str:
    """Return the name of a new move: the time at which it begins, and a random part."""
    return f"{move_name(now_ms)}-{uuid4().hex}"


def move_name(ms: int) -> str:
    """Return what the names of moves that begin at a time begin with."""
    return f"{ms:015d}"


def size_of(letter: StoredLetter) -> int:
    """Return about how many bytes of Redis's memory a letter takes."""
    return len(letter.body) + len(letter.data) + len(letter.attributes) + len(letter.attempts) + ENTRY_BYTES
