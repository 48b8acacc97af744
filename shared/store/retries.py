"""Retry: makes deliveries that wait for their next attempt due now.

Only deliveries in a target's due set wait so: what is in flight, held behind an earlier event, done or dead
is left alone. A pause, a rate and a concurrency still hold; an open breaker lets one delivery try at once.
"""

import fnmatch
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from shared.store.audit import named, note
from shared.store.bells import Bells
from shared.store.client import RedisClient, translated
from shared.store.clock import now_ms
from shared.store.context import of_source, read_context
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.events import read_fields
from shared.store.walk import ALWAYS, walk

AT_ONCE = 500


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to retry: the waiting deliveries to these targets, of these events or of all.

    `source` and `type` (a glob) narrow it.
    """

    targets: tuple[str, ...]
    events: tuple[str, ...] = ()
    source: str | None = None
    type: str | None = None


class Counts(msgspec.Struct, frozen=True):
    """How many deliveries wait, by target: `later` for their next attempt, `now` are due already."""

    later: dict[str, int]
    now: dict[str, int]

    @property
    def total(self) -> int:
        """How many deliveries a retry would make due."""
        return sum(self.later.values())

    @property
    def targets(self) -> list[str]:
        """The targets with waiting deliveries."""
        return list(dict.fromkeys([*self.later, *self.now]))


class Retries:
    """Makes waiting deliveries due."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def count(self, wanted: Wanted) -> Counts:
        """Count what waits. Raises: StoreUnavailable."""
        time_ms = await now_ms(self._client)
        later: dict[str, int] = {}
        now: dict[str, int] = {}
        for target in wanted.targets:
            async for page in self._waiting(target, wanted):
                for _, due_ms in page:
                    counts = later if due_ms > time_ms else now
                    counts[target] = counts.get(target, 0) + 1
        return Counts(later, now)

    async def run(self, wanted: Wanted, counts: Counts, *, user: str) -> dict[str, int]:
        """Make them due, and ring for them. Returns how many were not due yet, by target.

        Raises: StoreUnavailable. What was made due until then stays so.
        """
        # The audit entry comes first: every retry has one, however it ends.
        asked: dict[str, Any] = msgspec.to_builtins(wanted)
        if wanted.events:
            asked |= named(wanted.events, "events")
        await note(self._client, "retry", user, asked, deliveries=counts.later)
        made: dict[str, int] = {}
        for target in counts.targets:
            made[target] = 0
            async for page in self._waiting(target, wanted):
                ids = [id for id, _ in page]
                made[target] += await self._client.run(
                    "retry", [self._keys.due(target), self._keys.target(target)], ids
                )
        await Bells(self._client).ring(Doorbell(DELIVER, target) for target in made)
        return made

    async def _waiting(self, target: str, wanted: Wanted) -> AsyncIterator[list[tuple[str, int]]]:
        """Yield the selected deliveries that wait for a target, with when they are due, a page at a time."""
        if wanted.events:
            for start in range(0, len(wanted.events), AT_ONCE):
                ids = wanted.events[start : start + AT_ONCE]
                with translated():
                    scores = await self._client.redis.zmscore(self._keys.due(target), list(ids))
                found = zip(ids, scores, strict=True)
                if page := await self._of_type(
                    [(id, int(score)) for id, score in found if score is not None], wanted
                ):
                    yield page
            return
        # Deliveries that a retry makes due are then behind the walk.
        async for members in walk(self._client, [self._keys.due(target)], ALWAYS, newest_first=False):
            if page := await self._of_type([(member.id, member.ms) for member in members], wanted):
                yield page

    async def _of_type(self, found: Sequence[tuple[str, int]], wanted: Wanted) -> list[tuple[str, int]]:
        """Return those of the wanted source and type."""
        found = [(id, ms) for id, ms in found if of_source(id, wanted.source)]
        if wanted.type is None or not found:
            return found
        rows = await read_fields(self._client, [(id, ["attributes"]) for id, _ in found])
        return [
            item
            for item, [kept] in zip(found, rows, strict=True)
            if kept is not None and fnmatch.fnmatchcase(read_context(kept).type, wanted.type)
        ]
