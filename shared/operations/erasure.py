"""Erases what is kept of a person: in Redis, in the archive, and in the dead letters on disk.

What was erased is found no more, so an erasure that was killed is finished by the next one. Redis comes
first: what the moving worker reads from there afterwards names nobody. Then the archive, once the worker has
ended the round that it was in; then the dead letters. It begins again until nothing is found, because an
event may have moved meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from shared.archive.holds import Hold, is_held
from shared.archive.letter import StoredLetter
from shared.archive.person import ERASED, Person
from shared.operations.disk import dead_letter_file
from shared.settings import Config
from shared.store.archive_state import published
from shared.store.audit import note
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.erasing import Erasing, Waiting
from shared.store.persistence import write_anew
from shared.store.sources import Sources

if TYPE_CHECKING:  # SQLAlchemy takes a third of a second to import
    from shared.archive.eraser import Eraser

ROUNDS = 5
ROUND_WITHIN_S, REWRITE_WITHIN_S, LEASE_WITHIN_S = 20.0, 600.0, 60.0
LOOK_S = 0.1
PAGE = 100


class Found(msgspec.Struct, frozen=True):
    """What is kept of a person: ids, and for events in Redis whether a delivery of theirs waits."""

    redis: dict[str, bool]
    archive: list[str]
    letters: list[StoredLetter]
    copies: list[str]
    archived_copies: list[str]
    quarantined: list[str]
    inbox: list[Waiting]

    @property
    def ids(self) -> set[str]:
        """The events, wherever they are."""
        return {*self.redis, *self.archive, *(letter.id for letter in self.letters)}


class ErasurePlan(msgspec.Struct, frozen=True):
    """How much is kept of a person, by place. `waiting`: those of `events_in_redis` with a delivery that
    waits. `held`: what a hold keeps, anywhere; it is not counted elsewhere.
    """

    events_in_redis: int = 0
    waiting: int = 0
    events_in_archive: int = 0
    dead_letters_on_disk: int = 0
    copies: int = 0
    in_quarantine: int = 0
    in_inboxes: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        """How many records can be erased."""
        counts: tuple[int, ...] = msgspec.structs.astuple(self)
        return sum(counts) - self.waiting - self.held


class Erased(msgspec.Struct, frozen=True):
    """What an erasure left: how many events and requests because they wait, and what must still be done."""

    left: int
    to_do: list[str]


class Erasure:
    """Erases one person. All methods raise StoreUnavailable and ArchiveUnavailable."""

    def __init__(self, client: RedisClient, config: Config, person: Person) -> None:
        self._client = client
        self._config = config
        self._person = person
        self._providers = {source.name: source.provider for source in config.sources}
        self._redis = Erasing(client, person, self._providers)
        self._holds: list[Hold] = []
        self._held: set[str] = set()
        self._archive = _archive(config, person)
        self._file = dead_letter_file(config)

    def close(self) -> None:
        """Close the connections to the archive."""
        if self._archive is not None:
            self._archive.close()

    async def plan(self) -> ErasurePlan:
        """Count what is kept of the person."""
        found = await self._find()
        return ErasurePlan(
            events_in_redis=len(found.redis),
            waiting=sum(found.redis.values()),
            events_in_archive=len(found.archive),
            dead_letters_on_disk=len(found.letters),
            copies=len({*found.copies, *found.archived_copies}),
            in_quarantine=len(found.quarantined),
            in_inboxes=len(found.inbox),
            held=len(self._held),
        )

    async def run(
        self, plan: ErasurePlan, *, with_waiting: bool, user: str, done: Callable[[int], None]
    ) -> Erased:
        """Erase what is kept of the person, and call `done` with how many records so far.

        Without `with_waiting`, what waits for delivery or in an inbox is left. If an error breaks it off, a
        second call goes on with the rest.
        """
        hash = None if self._archive is None else await asyncio.to_thread(self._archive.hash)
        asked = {"party": hash, "provider": self._person.provider, "with_waiting": with_waiting}
        # The audit entry comes first: nothing is erased without one.
        counts = {name: count for name, count in msgspec.structs.asdict(plan).items() if count}
        await note(self._client, "erase", user, asked, records=counts)
        count, leased_until = 0, monotonic() + LEASE_WITHIN_S
        for _ in range(ROUNDS):
            found = await self._find()
            if not await self._erase(found, with_waiting=with_waiting, until=leased_until):
                break
            count += len(found.ids) + len(found.copies) + len(found.quarantined) + len(found.inbox)
            done(min(count, plan.total))
        found = await self._find()
        waiting = sum(found.redis.values()) + len(found.inbox)
        unreadable = {} if self._archive is None else self._archive.unreadable
        left = len(found.ids - {*unreadable}) + len(found.inbox) + len(found.quarantined)
        to_do = await self._scrub()
        if left > waiting:
            to_do.append(f"{left - waiting:,} records came or moved meanwhile: run this again")
        return Erased(waiting, to_do)

    async def _find(self) -> Found:
        archive: list[str] = []
        if self._archive is not None:
            self._holds = await asyncio.to_thread(self._archive.holds)
            archive = await asyncio.to_thread(self._archive.events)
            self._redis = Erasing(self._client, self._person, self._providers, self._holds)
            self._redis.held |= self._archive.held  # whose late copies are in Redis
        redis = await self._redis.events()
        letters = await asyncio.to_thread(self._letters)
        ids = {*redis, *archive, *(letter.id for letter in letters)}
        archived = [] if self._archive is None else await asyncio.to_thread(self._archive.copies, ids)
        sources = dict.fromkeys([*self._redis.sources, *await Sources(self._client).on_record()])
        found = Found(
            redis=redis,
            archive=archive,
            letters=letters,
            copies=await self._redis.copies(ids),
            archived_copies=archived,
            quarantined=await self._redis.quarantined(),
            inbox=await self._redis.waiting([*sources]),
        )
        self._held |= self._redis.held | (set() if self._archive is None else self._archive.held)
        return found

    def _letters(self) -> list[StoredLetter]:
        found: list[StoredLetter] = []
        last: StoredLetter | None = None
        while self._file is not None and (page := self._file.whole(limit=PAGE, after=last)):
            last = page[-1]
            for letter in page:
                if letter.body != ERASED and self._person.is_of(letter.data, letter.body):
                    if is_held(self._holds, letter.id, letter.source, letter.data):
                        self._held.add(letter.id)
                    else:
                        found.append(letter)
        return found

    async def _erase(self, found: Found, *, with_waiting: bool, until: float) -> bool:
        """Erase what was found. Returns whether there was anything to erase."""
        ids = [id for id, waits in found.redis.items() if with_waiting or not waits]
        left = {*found.redis} - {*ids}
        archive = [id for id in found.archive if id not in left]
        letters = [letter for letter in found.letters if letter.id not in left]
        inbox = found.inbox if with_waiting else []
        # A copy is found by its first, so it comes before that.
        await self._redis.erase_copies(found.copies)
        await self._redis.discard_quarantined(found.quarantined)
        if inbox:
            await self._redis.remove_waiting(inbox)
        replies = await self._redis.erase_events(ids, discard=with_waiting)
        while replies["leased"] and monotonic() < until:
            await asyncio.sleep(1)
            replies = await self._redis.erase_events(ids, discard=with_waiting)
        if self._archive is not None:
            if ids or found.copies:
                await self._round_ended()
            await asyncio.to_thread(self._archive.erase_copies, found.archived_copies)
            await asyncio.to_thread(self._archive.erase_events, archive)
        if self._file is not None and letters:
            await asyncio.to_thread(self._file.replace, [*map(self._person.erased_letter, letters)])
        return bool(ids or archive or letters or inbox or found.copies or found.quarantined)

    async def _round_ended(self) -> None:
        """Wait until the moving worker, if there is one, has ended the round that it is in."""
        since, until = await now_ms(self._client), monotonic() + ROUND_WITHIN_S
        while monotonic() < until:
            state = await published(self._client)
            if state is None or state.at_ms >= since:
                return
            await asyncio.sleep(LOOK_S)

    async def _scrub(self) -> list[str]:
        """Have all files written anew. Returns what must still be done."""
        to_do = await write_anew(self._client, REWRITE_WITHIN_S)
        if self._file is not None:
            await asyncio.to_thread(self._file.scrub)
        if self._archive is not None:
            if not await asyncio.to_thread(self._archive.scrub):
                to_do.append("the archive's log was read all the time: run this again")
            to_do += [f"not erased: {why}" for why in self._archive.unreadable.values()]
        return to_do


def _archive(config: Config, person: Person) -> Eraser | None:
    if not config.archive.url:
        return None
    from shared.archive.database import Database
    from shared.archive.eraser import Eraser

    return Eraser(Database(config.archive.url, config.archive.encryption_keys), person)
