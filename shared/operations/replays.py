"""Replays: counts the deliveries to send again, and sends them.

A replay walks its selection twice, to count and to send, and never holds more than a page of it. Deliveries
that are on their way already are left alone, so a replay that broke off can be repeated. A dead letter on the
disk goes back to Redis first: the event's record, if that is gone, then the delivery; then its row is
removed.
"""

from __future__ import annotations

import asyncio
import fnmatch
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from shared.archive.letter import StoredLetter
from shared.archive.months import first_id
from shared.operations.disk import certain
from shared.store.audit import named, note
from shared.store.bells import Bells
from shared.store.client import RedisClient, translated
from shared.store.context import of_source, read_context
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.events import read_fields
from shared.store.letters import Letters
from shared.store.walk import Span, walk

if TYPE_CHECKING:
    from shared.archive.dead_letters import DeadLetterFile
    from shared.archive.reader import Reader
    from shared.operations.returns import Returns

AT_ONCE = 500


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to send again: `events` by id; or the dead letters of a target; or what came in during `span`.

    `span` bounds dead letters by when they died. `to` is one target instead of the event's own (for a dead
    letter: instead of its own target).
    """

    span: Span
    events: tuple[str, ...] = ()
    dead_letters_of: str | None = None
    source: str | None = None
    type: str | None = None
    to: str | None = None


class ReplayPlan(msgspec.Struct, frozen=True):
    """What a replay would do, as counts of deliveries by target.

    `waiting` are on their way already. `unserved` belong to targets that are no longer configured.
    """

    deliveries: dict[str, int]
    waiting: int
    unserved: dict[str, int]

    @property
    def total(self) -> int:
        """How many deliveries it would send, to all targets together."""
        return sum(self.deliveries.values())


class Replayed(msgspec.Struct, frozen=True):
    """What a replay did: deliveries by target, how many were on their way already, how many are gone."""

    deliveries: dict[str, int]
    waiting: int
    gone: int

    @property
    def total(self) -> int:
        """How many deliveries were sent again."""
        return sum(self.deliveries.values())


class _Wanted(msgspec.Struct, frozen=True):
    """An event, and the targets to send it to; to those in `waiting` it is on its way already."""

    id: str
    targets: Sequence[str]
    waiting: Collection[str] = ()
    unserved: Sequence[str] = ()


class Replays:
    """Sends recorded events again."""

    def __init__(
        self,
        client: RedisClient,
        targets: Sequence[str],
        file: DeadLetterFile | None = None,
        archive: Reader | None = None,
    ) -> None:
        """`targets` are the names of the configured targets: nothing is sent to any other."""
        self._client = client
        self._keys = client.keys
        self._letters = Letters(client)
        self._file = file
        self._archive = archive
        self._returns: Returns | None = None
        if file is not None or archive is not None:
            from shared.operations.returns import Returns

            self._returns = Returns(client, file, archive)
        self._targets = tuple(targets)

    async def plan(self, selection: Selection) -> ReplayPlan:
        """Count what `run` would send. Raises: StoreUnavailable."""
        dead = selection.dead_letters_of
        if dead is not None and selection.source is None and _as_they_are(selection):
            within = selection.span
            with translated():
                count = await self._client.redis.zcount(
                    self._keys.dead(dead), within.since_ms, within.until_ms
                )
            count += await self._count_on_disk(dead, within)
            return ReplayPlan({dead: count} if count else {}, 0, {})
        deliveries: Counter[str] = Counter()
        unserved: Counter[str] = Counter()
        waiting = 0
        async for page in self._wanted(selection):
            for item in page:
                deliveries.update(name for name in item.targets if name not in item.waiting)
                unserved.update(item.unserved)
                waiting += len(item.waiting)
        return ReplayPlan(dict(deliveries), waiting, dict(unserved))

    async def run(
        self,
        selection: Selection,
        plan: ReplayPlan,
        *,
        user: str,
        done: Callable[[int], None] = lambda _: None,
    ) -> Replayed:
        """Send again what is selected, ring for it, and call `done` with how many deliveries so far.

        Raises: StoreUnavailable. What was sent until then stays so, and a second call does not repeat it.
        """
        # The audit entry comes first: every replay has one, however it ends.
        asked: dict[str, Any] = msgspec.to_builtins(selection)
        if selection.events:
            asked |= named(selection.events, "events")
        await note(self._client, "replay", user, asked, deliveries=plan.deliveries)
        counts: Counter[str] = Counter()
        deliveries: Counter[str] = Counter()
        async for page in self._wanted(selection):
            for target in dict.fromkeys(name for item in page for name in item.targets):
                ids = [item.id for item in page if target in item.targets]
                for start in range(0, len(ids), AT_ONCE):
                    results = Counter(await self._replay(target, ids[start : start + AT_ONCE]))
                    counts.update(results)
                    deliveries[target] += results["replayed"]
            done(counts["replayed"])
        sent = {target: count for target, count in deliveries.items() if count}
        await Bells(self._client).ring(Doorbell(DELIVER, target) for target in sent)
        return Replayed(sent, counts["waiting"], counts["gone"])

    async def _replay(self, target: str, ids: Sequence[str]) -> list[str]:
        if self._returns is None:
            return await self._letters.replay(target, ids)
        return await self._returns.replay(target, ids)

    async def _wanted(self, selection: Selection) -> AsyncIterator[list[_Wanted]]:
        dead = selection.dead_letters_of
        async for ids in self._selected(selection):
            if dead is not None and _as_they_are(selection):
                yield [_Wanted(id, (dead,)) for id in ids]
            else:
                yield await self._looked_up(ids, selection)

    async def _selected(self, selection: Selection) -> AsyncIterator[list[str]]:
        """Yield the ids that may be selected, oldest first; the events themselves are not read yet."""
        if selection.events:
            ids = list(dict.fromkeys(selection.events))
            for start in range(0, len(ids), AT_ONCE):
                yield ids[start : start + AT_ONCE]
            return
        dead = selection.dead_letters_of
        sets = (
            [self._keys.open, self._keys.finished, self._keys.packed]
            if dead is None
            else [self._keys.dead(dead)]
        )
        # What a replay sends, and what dies again, is then outside of the span or behind the walk.
        after = first_id(selection.span.since_ms)
        async for members in walk(self._client, sets, selection.span, newest_first=False, page=AT_ONCE):
            page = [member.id for member in members]
            if dead is None:
                # Between two of Redis's pages: what is archived meanwhile is found, and nothing twice.
                async for archived in self._in_archive(after, page[-1]):
                    older = [id for id in page if id <= archived[-1]]
                    page = page[len(older) :]
                    yield self._of_source(sorted({*archived, *older}), selection)
                after = members[-1].id
            yield self._of_source(page, selection)
        if dead is None:
            async for archived in self._in_archive(after, first_id(selection.span.until_ms + 1)):
                yield self._of_source(archived, selection)
        async for letters in self._on_disk(selection.span, dead):
            ids = self._of_source(list(dict.fromkeys(letter.id for letter in letters)), selection)
            # Events that Redis or the archive have were found above, unless dead letters are selected.
            yield ids if dead is not None else await self._only_on_disk(ids)

    def _of_source(self, ids: Sequence[str], selection: Selection) -> list[str]:
        return [id for id in ids if of_source(id, selection.source)]

    async def _in_archive(self, after: str, until: str) -> AsyncIterator[list[str]]:
        """Yield the ids of archived events after one id, up to another one, oldest first."""
        if self._archive is None:
            return
        while page := await asyncio.to_thread(self._archive.ids, after, until, AT_ONCE):
            after = page[-1]
            yield page

    async def _only_on_disk(self, ids: Sequence[str]) -> list[str]:
        gone = await self._letters.gone(ids)
        if self._archive is None or not gone:
            return gone
        archived = {known.id for known in await asyncio.to_thread(self._archive.known, gone)}
        return [id for id in gone if id not in archived]

    async def _on_disk(self, span: Span, dead: str | None) -> AsyncIterator[list[StoredLetter]]:
        """Yield the letters on the disk, oldest first: of one target by when they died, or all by receipt."""
        if self._file is None:
            return
        from shared.archive.dead_letters import Wanted

        bounds = (span.since_ms, span.until_ms)
        wanted = Wanted(received_ms=bounds) if dead is None else Wanted(targets=(dead,), died_ms=bounds)
        read = self._file.by_receipt if dead is None else self._file.by_death
        last: StoredLetter | None = None
        while page := await asyncio.to_thread(read, wanted, limit=AT_ONCE, after=last, newest_first=False):
            last = page[-1]
            yield await certain(self._letters, page)

    async def _count_on_disk(self, target: str, span: Span) -> int:
        if self._file is None:
            return 0
        count = await asyncio.to_thread(self._file.count, target, span.since_ms, span.until_ms)
        moving = await certain(self._letters, await asyncio.to_thread(self._file.moving))
        return count + sum(
            letter.target == target and span.since_ms <= letter.died_ms <= span.until_ms for letter in moving
        )

    async def _looked_up(self, ids: Sequence[str], selection: Selection) -> list[_Wanted]:
        to = selection.to or selection.dead_letters_of
        candidates = self._targets if to is None else (to,)
        fields = ["attributes", "targets", *(f"end:{name}" for name in candidates)]
        replies = await read_fields(self._client, [(id, fields) for id in ids])
        heads = dict(zip(ids, replies, strict=True))
        gone = [id for id, head in heads.items() if head[0] is None]
        if self._archive is not None and gone:
            for event in await asyncio.to_thread(self._archive.events, gone):
                heads[event.id] = [
                    event.attributes,
                    event.fields["targets"],
                    *(b"disk" for _ in candidates),  # none of them waits
                ]
            gone = [id for id, head in heads.items() if head[0] is None]
        if self._file is not None:
            for letter in await asyncio.to_thread(self._file.of_events, gone) if gone else []:
                heads[letter.id] = [
                    letter.attributes,
                    letter.targets.encode(),
                    *(b"disk" for _ in candidates),
                ]
        wanted = []
        for id, (attributes, targets, *ends) in heads.items():
            if attributes is None or not _of_type(attributes, selection.type):
                continue
            own = [name for name in targets.decode().split(",") if name]
            waiting = {
                name for name, end in zip(candidates, ends, strict=True) if end is None and name in own
            }
            if to is not None:
                wanted.append(_Wanted(id, (to,), waiting))
            else:
                served = [name for name in own if name in candidates]
                wanted.append(_Wanted(id, served, waiting, [name for name in own if name not in candidates]))
        return wanted


def _as_they_are(selection: Selection) -> bool:
    """Tell whether each dead letter goes to its own target, so that no event needs to be read."""
    return selection.type is None and selection.to in (None, selection.dead_letters_of)


def _of_type(attributes: bytes, type: str | None) -> bool:
    return type is None or fnmatch.fnmatchcase(read_context(attributes).type, type)
