"""Sends events again that Redis no longer has, or has without their dead letters: from the archive and from
the disk back into Redis, no faster than the target takes them.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

from shared.archive.dead_letters import DeadLetterFile
from shared.archive.letter import StoredLetter
from shared.archive.reader import Reader
from shared.errors import StoreUnavailable
from shared.operations.moves import ENTRY_BYTES, new_move, size_of
from shared.store.bells import Bells
from shared.store.client import RedisClient, translated
from shared.store.clock import now_ms
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.letters import Letters, archived_record, record_of
from shared.store.shares import Shares

AT_ONCE = 20  # with their bodies, in one transaction
AHEAD = 0.02  # of Redis's memory: how much may wait for the target before more comes back
FILLED = 0.7
FULL = 0.75
PATIENCE_S = 60.0
LOOK_S = 0.1


class Returns:
    """Replays events of which some are in the archive, or on the disk.

    All methods raise StoreUnavailable and ArchiveUnavailable.
    """

    def __init__(self, client: RedisClient, file: DeadLetterFile | None, archive: Reader | None) -> None:
        self._client = client
        self._keys = client.keys
        self._letters = Letters(client)
        self._shares = Shares(client)
        self._bells = Bells(client)
        self._file = file
        self._archive = archive
        self._waited_before: dict[str, int] = {}

    async def replay(self, target: str, ids: Sequence[str]) -> list[str]:
        """Send events to a target again. Returns the reply of `replay.lua` for each."""
        results: list[str] = []
        for start in range(0, len(ids), AT_ONCE):
            results += await self._replay(target, ids[start : start + AT_ONCE])
        return results

    async def _replay(self, target: str, ids: Sequence[str]) -> list[str]:
        gone = await self._letters.gone(ids)
        archived = await asyncio.to_thread(self._archive.events, gone) if self._archive and gone else []
        on_disk = [
            letter for letter in await self._letters_of(ids) if letter.target == target or letter.id in gone
        ]
        if not on_disk and not archived:
            return await self._letters.replay(target, ids)
        sizes = [size_of(letter) for letter in on_disk]
        sizes += [len(event.body) + len(event.data) + ENTRY_BYTES for event in archived]
        await self._wait_for_room(target, max(sizes))
        if self._file is not None and on_disk:
            return await self._leave(self._file, target, ids)
        return await self._letters.put_back_and_replay(target, ids, await self._records(ids, []))

    async def _leave(self, file: DeadLetterFile, target: str, ids: Sequence[str]) -> list[str]:
        """Take a target's letters off the disk, and send their events again."""
        move = new_move(await now_ms(self._client))
        leaving = await asyncio.to_thread(file.leave, target, ids, move)
        try:
            records = await self._records(ids, leaving)
            results = await self._letters.put_back_and_replay(target, ids, records)
        except StoreUnavailable:
            # Redis knows which went back. If it does not answer now, the marks stay until it does.
            there = await self._letters.on_disk(leaving)
            stay = [letter.key for letter, is_there in zip(leaving, there, strict=True) if is_there]
            await asyncio.to_thread(file.arrived, stay, move)
            raise
        outcome = dict(zip(ids, results, strict=True))
        await asyncio.to_thread(file.remove, [each for each in leaving if outcome[each.id] != "gone"])
        if stay := [letter.key for letter in leaving if outcome[letter.id] == "gone"]:
            await asyncio.to_thread(file.arrived, stay, move)
        return results

    async def _records(
        self, ids: Sequence[str], leaving: Sequence[StoredLetter]
    ) -> list[list[str | bytes | int | float]]:
        """Return the records of events that are gone, and the leaving letters of all others, for their
        attempts.
        """
        gone = await self._letters.gone(ids)
        archived = await asyncio.to_thread(self._archive.events, gone) if self._archive and gone else []
        of_archived = {event.id: event for event in archived}
        records = [record_of([letter]) for letter in leaving if letter.id not in gone]
        for id in gone:
            letters = await asyncio.to_thread(self._file.of_event, id) if self._file else []
            if id in of_archived:
                records.append(archived_record(of_archived[id], letters))
            elif letters:
                records.append(record_of(letters))
        return records

    async def _letters_of(self, ids: Sequence[str]) -> list[StoredLetter]:
        return await asyncio.to_thread(self._file.of_events, ids) if self._file else []

    async def _wait_for_room(self, target: str, largest: int) -> None:
        """Wait until the target has taken what came back before: past its share of memory it would only leave
        again.

        Raises: StoreUnavailable after PATIENCE_S.
        """
        until = monotonic() + PATIENCE_S
        while True:
            waiting = await self._waiting(target)
            before = self._waited_before[target] = min(waiting, self._waited_before.get(target, waiting))
            memory, verdict = await self._shares.memory(), await self._shares.verdict()
            ahead = max(AT_ONCE, AHEAD * memory.most // largest)
            # What else waits for the target must leave room in its share.
            taken = waiting <= ahead or (
                waiting <= before + ahead and verdict.filled.get(target, 0.0) <= FILLED
            )
            if taken and memory.used_share <= FULL and target not in verdict.targets:
                return
            if monotonic() >= until:
                full = f"Redis is full: {memory.used_share:.0%} of maxmemory"
                raise StoreUnavailable(
                    full if memory.used_share > FULL else f"{target} takes no more now: see headrace targets"
                )
            await self._bells.ring([Doorbell(DELIVER, target)])
            await asyncio.sleep(LOOK_S)

    async def _waiting(self, target: str) -> int:
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            pipe.zcard(self._keys.due(target))
            pipe.zcard(self._keys.leased(target))
            return sum(await pipe.execute())
