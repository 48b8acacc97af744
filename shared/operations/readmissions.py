"""Admits, by hand, requests that were held back: those in quarantine after a fix, and suppressed copies.

A request is read again, and keeps its id and its time of receipt. One script moves it to its new place, so it
is in exactly one place at every moment. A repeat finds nothing to move.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec

from shared.event.ids import stream_id
from shared.operations.archived import Archived
from shared.routing.reading import POISON, Reader
from shared.store.admission import Admission, AdmissionOptions, Entry, Outcome, Place, Quarantine, admit
from shared.store.audit import named, note
from shared.store.bells import Bells
from shared.store.client import RedisClient, translated
from shared.store.context import of_source
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.events import read_fields
from shared.store.finished import put_back
from shared.store.walk import Span, walk

AT_ONCE = 50  # with their bodies
CHAIN = 8  # as in copies.lua

_headers = msgspec.json.Decoder(dict[str, str]).decode


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which requests to admit: `receipts` by id; or all in quarantine that match the other fields.

    `code` is a reason for which requests were quarantined. Requests that workers died of are left out unless
    they are named: reading one may end this process, too.
    """

    span: Span
    receipts: tuple[str, ...] = ()
    source: str | None = None
    code: str | None = None


class ReadmissionPlan(msgspec.Struct, frozen=True):
    """How many requests can be read now, by source, and how many cannot, by reason.

    `unserved` belong to sources that are not configured. `poison` were left out, because workers died of
    them. `gone` are there no more, or are copies without a body of their own whose first has been removed.
    """

    readable: dict[str, int]
    unreadable: dict[str, int]
    unserved: dict[str, int]
    poison: int
    gone: int

    @property
    def total(self) -> int:
        """How many would go through admission, whatever becomes of them."""
        return sum(self.readable.values()) + sum(self.unreadable.values())


class Readmitted(msgspec.Struct, frozen=True):
    """What became of the requests. `quarantined` counts those that still cannot be read, by reason."""

    admitted: int
    duplicates: int
    differing: int
    quarantined: dict[str, int]
    gone: int
    deliveries: dict[str, int]

    @property
    def total(self) -> int:
        """How many went through admission."""
        return self.admitted + self.duplicates + sum(self.quarantined.values())


class _Batch(msgspec.Struct, frozen=True):
    """Requests from one place with their bodies, and how many were left out."""

    place: Place
    entries: list[Entry]
    unserved: list[str] = []
    poison: int = 0
    gone: int = 0


class Readmissions:
    """Admits requests that were held back."""

    def __init__(
        self, client: RedisClient, reader: Reader, *, retention_ms: int, archive: Archived | None = None
    ) -> None:
        self._client = client
        self._keys = client.keys
        self._reader = reader
        self._retention_ms = retention_ms
        self._archive = archive

    async def plan(self, held: Held) -> ReadmissionPlan:
        """Read what is selected, and count what could be admitted. Raises: StoreUnavailable."""
        readable: Counter[str] = Counter()
        unreadable: Counter[str] = Counter()
        unserved: Counter[str] = Counter()
        poison = gone = 0
        async for batch in self._batches(held):
            for item in map(self._reader.read, batch.entries):
                if isinstance(item, Admission):
                    readable[item.entry.source] += 1
                else:
                    unreadable[item.code] += 1
            unserved.update(batch.unserved)
            poison += batch.poison
            gone += batch.gone
        return ReadmissionPlan(dict(readable), dict(unreadable), dict(unserved), poison, gone)

    async def run(
        self, held: Held, plan: ReadmissionPlan, *, user: str, done: Callable[[int], None] = lambda _: None
    ) -> Readmitted:
        """Admit what is selected, ring for it, and call `done` with how many so far.

        Raises: StoreUnavailable. What was admitted until then stays so, and a second call does not repeat it.
        """
        asked = msgspec.to_builtins(held)
        if held.receipts:
            asked |= named(held.receipts, "receipts")
        # The audit entry comes first: nothing is admitted by hand without one.
        await note(self._client, "admit", user, asked, requests=plan.readable)
        bells = Bells(self._client)
        counts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        deliveries: Counter[str] = Counter()
        async for batch in self._batches(held):
            for source, entries in _by_source(batch.entries):
                items = [self._reader.read(entry) for entry in entries]
                outcomes = await admit(
                    self._client,
                    batch.place,
                    source,
                    items,
                    AdmissionOptions(
                        self._reader.window_ms(source),
                        self._retention_ms,
                        resend_ms=self._reader.resend_ms(source),
                    ),
                )
                counts.update(outcome.what for outcome in outcomes)
                counts["differing"] += sum(outcome.differs for outcome in outcomes)
                reasons.update(_reasons(items, outcomes))
                sent = _deliveries(items, outcomes)
                deliveries.update(sent)
                await bells.ring(Doorbell(DELIVER, target) for target in sent)
            counts["gone"] += batch.gone
            done(counts["admitted"] + counts["duplicate"] + counts["quarantined"])
        return Readmitted(
            admitted=counts["admitted"],
            duplicates=counts["duplicate"],
            differing=counts["differing"],
            quarantined=dict(reasons),
            gone=counts["gone"],
            deliveries=dict(deliveries),
        )

    async def _batches(self, held: Held) -> AsyncIterator[_Batch]:
        """Yield what is selected, oldest first, a few bodies at a time."""
        if held.receipts:
            receipts = sorted(set(held.receipts))
            for start in range(0, len(receipts), AT_ONCE):
                for batch in await self._named(receipts[start : start + AT_ONCE]):
                    yield batch
            return
        # Admitted requests leave the set, and all others stay behind the walk: each is seen once.
        async for members in walk(self._client, [self._keys.quarantine], held.span, newest_first=False):
            ids = [member.id for member in members if of_source(member.id, held.source)]
            for start in range(0, len(ids), AT_ONCE):
                part = ids[start : start + AT_ONCE]
                codes = await self._codes(part)
                wanted = [
                    id
                    for id, code in zip(part, codes, strict=True)
                    if code == held.code or (held.code is None and code != POISON)
                ]
                batch = await self._quarantined(wanted)
                yield msgspec.structs.replace(batch, poison=codes.count(POISON) if held.code is None else 0)

    async def _named(self, receipts: Sequence[str]) -> list[_Batch]:
        quarantined = await self._quarantined(receipts)
        found = {entry.id for entry in quarantined.entries}
        others = [id for id in receipts if id not in found] if quarantined.gone else []
        copies = [await self._copy(id) for id in others]
        served = [copy for copy in copies if copy is not None and self._reader.knows(copy.source)]
        return [
            msgspec.structs.replace(quarantined, gone=0),
            _Batch(
                Place.DUPLICATES,
                served,
                [copy.source for copy in copies if copy is not None and not self._reader.knows(copy.source)],
                gone=copies.count(None),
            ),
        ]

    async def _codes(self, ids: Sequence[str]) -> list[str | None]:
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hget(self._keys.quarantined(id), "code")
            codes = await pipe.execute() if ids else []
        return [None if code is None else code.decode() for code in codes]

    async def _quarantined(self, ids: Sequence[str]) -> _Batch:
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hmget(self._keys.quarantined(id), ["source", "body", "headers"])
            replies = await pipe.execute() if ids else []
        entries = [
            _entry(id, source, body, headers)
            for id, (source, body, headers) in zip(ids, replies, strict=True)
            if body is not None
        ]
        return _Batch(
            Place.QUARANTINE,
            [entry for entry in entries if self._reader.knows(entry.source)],
            [entry.source for entry in entries if not self._reader.knows(entry.source)],
            gone=len(ids) - len(entries),
        )

    async def _copy(self, id: str) -> Entry | None:
        """Return a suppressed copy; if it has no body of its own, with the first's.

        An archived one is put back: it can be admitted from Redis alone.
        """
        redis: Any = self._client.redis
        archived = None if self._archive is None else await self._archive.copy(id, compared=False)
        if archived is not None:
            await put_back(self._client, archived)
        with translated():
            source, headers = await redis.hmget(self._keys.duplicate(id), ["source", "headers"])
            at = id
            for _ in range(CHAIN):
                of, body = await redis.hmget(self._keys.duplicate(at), ["of", "body"])
                if of is None and self._archive is not None and (between := await self._archive.copy(at)):
                    of, body = between.copy_of.encode(), between.body
                if source is None or of is None:
                    return None
                at = of.decode()
                if body is None:
                    [[body]] = await read_fields(self._client, [(at, ["body"])])
                if body is None:
                    body = await redis.hget(self._keys.quarantined(at), "body")
                if body is None and self._archive is not None:
                    body = next((event.body for event in await self._archive.events([at])), None)
                if body is not None:
                    return _entry(id, source, body, headers)
        return None


def _entry(id: str, source: bytes, body: bytes, headers: bytes | None) -> Entry:
    return Entry(stream_id(id), source.decode(), body, _headers(headers) if headers else {})


def _by_source(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    for source in dict.fromkeys(entry.source for entry in entries):
        yield source, [entry for entry in entries if entry.source == source]


def _reasons(items: Sequence[Admission | Quarantine], outcomes: Sequence[Outcome]) -> Iterator[str]:
    for item, outcome in zip(items, outcomes, strict=True):
        if isinstance(item, Quarantine) and outcome.what == "quarantined":
            yield item.code


def _deliveries(items: Sequence[Admission | Quarantine], outcomes: Sequence[Outcome]) -> Counter[str]:
    admitted = (
        item.targets
        for item, outcome in zip(items, outcomes, strict=True)
        if isinstance(item, Admission) and outcome.what == "admitted"
    )
    return Counter(target for targets in admitted for target in targets)
