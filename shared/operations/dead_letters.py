"""Lists and discards dead letters. Redis and the disk are read as one."""

from __future__ import annotations

import asyncio
import fnmatch
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from shared.archive.letter import StoredLetter
from shared.event.times import rfc3339_ms
from shared.operations.archived import Archived
from shared.operations.disk import certain, counts_of
from shared.store.audit import named, note
from shared.store.client import RedisClient
from shared.store.context import of_source
from shared.store.dead_letters import DeadLetterList
from shared.store.due import Attempt
from shared.store.letters import Letters
from shared.store.views import AttemptView, DeadLetter, attempt_view
from shared.store.walk import Span, walk
from shared.store.why import Why, why_given_up

if TYPE_CHECKING:
    from shared.archive.dead_letters import DeadLetterFile
    from shared.archive.reader import Reader

PAGE = 200


class Chosen(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which dead letters to discard: those of these targets that match all other fields.

    `span` is when they died. `type` is a glob. `reason` is a part of the reason, or of the last attempt's
    error, in upper or lower case.
    """

    targets: tuple[str, ...]
    span: Span
    events: tuple[str, ...] = ()
    source: str | None = None
    type: str | None = None
    reason: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Tell whether a dead letter of one of the targets, within the span, is chosen."""
        return (
            (not self.events or letter.id in self.events)
            and of_source(letter.id, self.source)
            and (self.type is None or fnmatch.fnmatchcase(letter.type, self.type))
            and (self.reason is None or self.reason.lower() in _said(letter).lower())
        )


class DeadLetters:
    """The dead letters in Redis and on disk. All methods raise StoreUnavailable and ArchiveUnavailable."""

    def __init__(
        self, client: RedisClient, file: DeadLetterFile | None, archive: Reader | None = None
    ) -> None:
        self._client = client
        self._keys = client.keys
        self._in_redis = DeadLetterList(client)
        self._letters = Letters(client)
        self._file = file
        self._archived = None if archive is None else Archived(archive)

    async def counts(self, targets: Sequence[str]) -> dict[str, int]:
        """Return how many dead letters each target has."""
        counts = await self._in_redis.counts(targets)
        on_disk = await counts_of(self._letters, self._file)
        return {target: count + on_disk.get(target, 0) for target, count in counts.items()}

    async def listing(self, targets: Sequence[str], span: Span, limit: int) -> list[DeadLetter]:
        """Return up to `limit` dead letters of these targets, the latest to die first."""
        # Redis first: a letter that moves meanwhile is then found on the disk. It is listed once.
        found = await self._in_redis.listing(targets, span, limit)
        seen = {(letter.id, letter.target) for letter in found}
        count = 0
        async for page in self._on_disk(targets, span):
            new = [letter for letter in page if letter.key not in seen]
            found += map(_view, new)
            count += len(new)
            if count >= limit:
                break
        return sorted(found, key=lambda letter: (letter.died_at, letter.id), reverse=True)[:limit]

    async def discard(
        self, chosen: Chosen, planned: dict[str, int], *, user: str, done: Callable[[int], None]
    ) -> dict[str, int]:
        """Discard what is chosen, and call `done` with how many so far. Returns how many, by target.

        If an error breaks it off, a second call goes on with the rest.
        """
        asked: dict[str, Any] = msgspec.to_builtins(chosen)
        if chosen.events:
            asked |= named(chosen.events, "events")
        # The audit entry comes first: nothing is discarded by hand without one.
        await note(self._client, "discard dead letters", user, asked, deliveries=planned)
        discarded: Counter[str] = Counter()
        async for target, page in self._chosen(chosen):
            results = await self._letters.end(target, page, "discarded")
            if self._file is not None and (stored := [letter for letter in page if letter.attributes]):
                if self._archived is not None:
                    await self._archived.end(target, [letter.id for letter in stored], "discarded")
                await asyncio.to_thread(self._file.remove, stored)
            discarded[target] += sum(result != "changed" for result in results)
            done(discarded.total())
        return dict(discarded)

    async def count(self, chosen: Chosen) -> dict[str, int]:
        """Return how many dead letters are chosen, by target."""
        counts: Counter[str] = Counter()
        seen: set[tuple[str, str]] = set()
        async for target, page in self._chosen(chosen):
            new = {letter.key for letter in page} - seen
            counts[target] += len(new)
            if self._file is not None:
                seen |= new  # a letter may move while they are counted
        return {target: count for target, count in counts.items() if count}

    async def _chosen(self, chosen: Chosen) -> AsyncIterator[tuple[str, list[StoredLetter]]]:
        """Yield what is chosen, a page of one target at a time: those in Redis first."""
        for target in chosen.targets:
            async for members in walk(
                self._client, [self._keys.dead(target)], chosen.span, newest_first=False
            ):
                views = await self._in_redis.views([(member, target) for member in members])
                page = [_stand_in(view) for view in views if chosen.takes(view)]
                for start in range(0, len(page), PAGE):
                    yield target, page[start : start + PAGE]
        async for page in self._on_disk(chosen.targets, chosen.span):
            for target in chosen.targets:
                mine = [each for each in page if each.target == target and chosen.takes(_view(each))]
                if mine:
                    yield target, mine

    async def _on_disk(self, targets: Sequence[str], span: Span) -> AsyncIterator[list[StoredLetter]]:
        if self._file is None:
            return
        from shared.archive.dead_letters import Wanted

        wanted = Wanted(targets=tuple(targets), died_ms=(span.since_ms, span.until_ms))
        last: StoredLetter | None = None
        while page := await asyncio.to_thread(self._file.by_death, wanted, limit=PAGE, after=last):
            last = page[-1]
            yield await certain(self._letters, page)


def attempts_of(letter: StoredLetter, *, answers: bool = False) -> list[AttemptView]:
    """Return the attempts in a letter, oldest first."""
    attempts = msgspec.json.decode(letter.attempts, type=dict[str, Attempt]).values()
    return [
        attempt_view(attempt, answers=answers) for attempt in sorted(attempts, key=lambda each: each.at_ms)
    ]


def why_of(letter: StoredLetter) -> Why:
    """Return why a letter was given up."""
    attempts = msgspec.json.decode(letter.attempts, type=dict[str, Attempt]).values()
    last = max(attempts, key=lambda each: each.at_ms, default=None)
    return why_given_up(letter.why.encode() or None, letter.failed, last)


def _view(letter: StoredLetter) -> DeadLetter:
    attempts = attempts_of(letter)
    return DeadLetter(
        id=letter.id,
        target=letter.target,
        died_at=rfc3339_ms(letter.died_ms),
        source=letter.source,
        type=letter.type,
        failed=letter.failed,
        last=attempts[-1] if attempts else None,
        why=why_of(letter),
        on_disk=True,
    )


def _stand_in(letter: DeadLetter) -> StoredLetter:
    """Return a letter with the fields that ending one in Redis needs: the script finds the rest."""
    return StoredLetter(
        id=letter.id,
        target=letter.target,
        source=letter.source,
        type=letter.type,
        received_ms=0,
        died_ms=0,
        failed=0,
        attempts=b"{}",
        attributes=b"",
        data=b"",
    )


def _said(letter: DeadLetter) -> str:
    said = [letter.why.word, letter.why.text]
    if letter.last is not None:
        said += [letter.last.error, f"HTTP {letter.last.status}"]
    return "\n".join(said)
