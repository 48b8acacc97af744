"""Finds and erases what Redis holds of a person. `shared.operations.erasure` has the order of the steps."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

import msgspec

from shared.archive.holds import Hold, is_held
from shared.archive.person import ERASED, Person, erased_attempt
from shared.event.ids import event_id
from shared.store.client import RedisClient, translated
from shared.store.context import read_context
from shared.store.events import Whole, fitting, read_whole
from shared.store.keys import GROUP
from shared.store.walk import ALWAYS, walk

READ_AT_ONCE = 100
BODIES_AT_ONCE = 50


class Waiting(msgspec.Struct, frozen=True):
    """A request that waits in the inbox of a source."""

    source: str
    stream_id: str


class Erasing:
    """What Redis holds of one person. All methods raise StoreUnavailable."""

    def __init__(
        self,
        client: RedisClient,
        person: Person,
        providers: Mapping[str, str],
        holds: Sequence[Hold] = (),
    ) -> None:
        """`providers` are those of the configured `sources`, by name. What `holds` keep is not found."""
        self._client = client
        self._keys = client.keys
        self._person = person
        self._providers = providers
        self.sources = list(providers)
        self._holds = holds
        self.held: set[str] = set()
        """What is the person's, and was not found because a hold keeps it."""

    async def events(self) -> dict[str, bool]:
        """Return the person's events, each with whether one of its deliveries waits."""
        found: dict[str, bool] = {}
        sets = [self._keys.open, self._keys.finished, self._keys.packed]
        async for members in walk(self._client, sets, ALWAYS, newest_first=False, page=READ_AT_ONCE):
            async for id, whole in self._read([member.id for member in members]):
                data = whole.fields[b"data"]
                if self._person.is_of(data, whole.fields[b"body"]):
                    source = read_context(whole.fields[b"attributes"]).source_name
                    if not self._is_held(id, source, data):
                        found[id] = _waits(whole.fields)
        return found

    async def copies(self, of: Collection[str]) -> list[str]:
        """Return the suppressed copies of these events, and those whose bodies have the name, if they hold
        more than that they came.
        """
        found: list[str] = []
        async for ids in self._of_set(self._keys.duplicates):
            with translated():
                pipe = self._client.redis.pipeline(transaction=False)
                for id in ids:
                    pipe.hmget(self._keys.duplicate(id), ["of", "source", "headers", "body"])
                replies = await pipe.execute()
            for id, (first, source, headers, body) in zip(ids, replies, strict=True):
                holds = headers is not None or body is not None
                if not holds or first.decode() in self.held:
                    continue
                if first.decode() in of or self._names(source.decode(), body):
                    found += [] if self._is_held(id, source.decode()) else [id]
        return found

    async def quarantined(self) -> list[str]:
        """Return the requests in quarantine whose bodies have the name."""
        found: list[str] = []
        async for ids in self._of_set(self._keys.quarantine):
            with translated():
                pipe = self._client.redis.pipeline(transaction=False)
                for id in ids:
                    pipe.hmget(self._keys.quarantined(id), ["source", "body"])
                replies = await pipe.execute()
            for id, (source, body) in zip(ids, replies, strict=True):
                if source is not None and self._names(source.decode(), body):
                    found += [] if self._is_held(id, source.decode()) else [id]
        return found

    async def waiting(self, sources: Sequence[str]) -> list[Waiting]:
        """Return the requests in the inboxes of these sources whose bodies have the name."""
        found: list[Waiting] = []
        redis: Any = self._client.redis
        for source in sources:
            after = "-"
            while True:
                with translated():
                    page = await redis.xrange(self._keys.inbox(source), after, "+", count=BODIES_AT_ONCE)
                for id, fields in page:
                    mine = self._names(source, fields.get(b"body"))
                    if mine and not self._is_held(event_id(source, id.decode()), source):
                        found.append(Waiting(source, id.decode()))
                if len(page) < BODIES_AT_ONCE:
                    break
                after = f"({page[-1][0].decode()}"
        return found

    async def erase_events(self, ids: Sequence[str], *, discard: bool) -> Counter[str]:
        """Erase what events hold. `discard`: deliveries that wait are discarded; else such an event is left.

        Returns how many there are of each reply of `erase.lua`. If repeated, nothing changes.
        """
        replies: Counter[str] = Counter()
        start = 0
        while start < len(ids):
            part = ids[start : start + BODIES_AT_ONCE]
            part = part[: await fitting(self._client, part)]
            args: list[str | bytes | int | float] = ["discard" if discard else ""]
            for id, whole in zip(part, await read_whole(self._client, part), strict=True):
                if whole is None:
                    replies["gone"] += 1
                else:
                    args += self._left_of(id, whole)
            if len(args) > 1:
                replies.update(reply.decode() for reply in await self._client.run("erase", [], args))
            start += len(part)
        return replies

    async def erase_copies(self, ids: Sequence[str]) -> None:
        """Erase what suppressed copies hold."""
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hdel(self._keys.duplicate(id), "headers", "body")
            await pipe.execute()

    async def discard_quarantined(self, ids: Sequence[str]) -> None:
        """Remove requests from quarantine."""
        for start in range(0, len(ids), READ_AT_ONCE):
            await self._client.run("discard_quarantined", [], ["", *ids[start : start + READ_AT_ONCE]])

    async def remove_waiting(self, requests: Sequence[Waiting]) -> None:
        """Remove requests from inboxes. A worker that has taken one does not admit it then."""
        with translated():
            pipe = self._client.redis.pipeline(transaction=True)
            for request in requests:
                inbox = self._keys.inbox(request.source)
                pipe.xack(inbox, GROUP, request.stream_id)
                pipe.xdel(inbox, request.stream_id)
                pipe.hdel(self._keys.alone(request.source), request.stream_id)
            await pipe.execute()

    def _left_of(self, id: str, whole: Whole) -> list[str | bytes | int | float]:
        """Return the arguments of erase.lua for an event."""
        args: list[str | bytes | int | float] = [id, whole.packed or "", whole.count, len(whole.apart)]
        args.append(self._person.erased_attributes(whole.fields[b"attributes"]))
        args += [self._person.erased_data(whole.fields[b"data"]), ERASED, len(whole.attempts)]
        for field, attempt in whole.attempts.items():
            args += [field, erased_attempt(attempt)]
        return args

    def _is_held(self, id: str, source: str, data: bytes | None = None) -> bool:
        held = is_held(self._holds, id, source, data)
        self.held |= {id} if held else set()
        return held

    def _names(self, source: str, body: bytes | None) -> bool:
        if self._person.provider not in (None, self._providers.get(source, self._person.provider)):
            return False
        return body is not None and self._person.is_named_in(body)

    async def _read(self, ids: Sequence[str]) -> AsyncIterator[tuple[str, Whole]]:
        start = 0
        while start < len(ids):
            part = ids[start : start + BODIES_AT_ONCE]
            part = part[: await fitting(self._client, part)]
            for id, whole in zip(part, await read_whole(self._client, part), strict=True):
                if whole is not None and b"data" in whole.fields:
                    yield id, whole
            start += len(part)

    async def _of_set(self, key: str) -> AsyncIterator[list[str]]:
        async for members in walk(self._client, [key], ALWAYS, newest_first=False, page=BODIES_AT_ONCE):
            yield [member.id for member in members]


def _waits(fields: Mapping[bytes, bytes]) -> bool:
    targets = fields.get(b"targets", b"").decode()
    return any(f"end:{name}".encode() not in fields for name in targets.split(",") if name)
