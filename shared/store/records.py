"""Reads requests and events for operators: what came in, and what became of it."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from shared.archive.search import Search
from shared.event.ids import received_ms, stream_id
from shared.event.record import EventRecord
from shared.store.client import RedisClient, translated
from shared.store.context import of_source, read_context
from shared.store.events import read_attempts, read_fields, read_records
from shared.store.searching import takes, takes_attempts, takes_payload
from shared.store.views import (
    COPY,
    HEAD,
    HELD,
    QUARANTINED,
    WAITING,
    CopyView,
    EventView,
    InboxView,
    Kept,
    QuarantineView,
    copy_view,
    event_view,
    inbox_view,
    quarantine_view,
)
from shared.store.walk import ALWAYS, Member, Span, walk

ALL = Search()
READ_AT_ONCE = 200
DATA_AT_ONCE = 50  # `data` may be as large as a body


class Records:
    """What the store holds of requests and events."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def find(self, event_id: str, sources: Sequence[str]) -> Kept | None:
        """Return what a receipt stands for now; None if it is unknown, or retention has removed it.

        `sources` are the names of the inboxes to search. Raises: StoreUnavailable.
        """
        source = next((name for name in sources if of_source(event_id, name)), "")
        entry = stream_id(event_id)
        with translated():
            # One transaction: between two reads an entry may move from the inbox to the events.
            pipe = self._client.redis.pipeline(transaction=True)
            pipe.exists(self._keys.event(event_id))
            pipe.hmget(self._keys.duplicate(event_id), COPY)
            pipe.hexists(self._keys.duplicate(event_id), "body")
            pipe.hmget(self._keys.quarantined(event_id), QUARANTINED)
            pipe.hstrlen(self._keys.quarantined(event_id), "body")
            pipe.xrange(self._keys.inbox(source), entry, entry)
            pipe.hget(self._keys.alone(source), entry)
            admitted, copy, own_body, quarantined, size, waiting, takes = await pipe.execute()
        if admitted:
            found = await self._views([event_id])
            return found[0] if found else None  # retention may come between
        if copy[0] is not None:
            return copy_view(event_id, copy, own_body=bool(own_body))
        if quarantined[0] is not None:
            return quarantine_view(event_id, quarantined, size)
        if waiting:
            return inbox_view(
                event_id, source, bytes=len(waiting[0][1][b"body"]), takes_alone=int(takes or 0)
            )
        return None

    async def payload(self, kept: Kept) -> EventRecord | bytes | None:
        """Return an event as it is delivered, or the body of what is not an event; None if it is gone.

        The body of a copy is kept only if it differs from the first's. Raises: StoreUnavailable.
        """
        redis: Any = self._client.redis
        if isinstance(kept, EventView):
            [record] = await read_records(self._client, [kept.id])
            return record
        with translated():
            if isinstance(kept, InboxView):
                entry = stream_id(kept.id)
                found = await redis.xrange(self._keys.inbox(kept.source), entry, entry)
                body = found[0][1][b"body"] if found else None
            else:
                key = self._keys.duplicate if isinstance(kept, CopyView) else self._keys.quarantined
                body = await redis.hget(key(kept.id), "body")
        return None if body is None else bytes(body)

    async def events(self, wanted: Search, limit: int, before: str | None = None) -> list[EventView]:
        """Return up to `limit` events, newest first; with `before`, only those whose ids are smaller.

        Raises: StoreUnavailable.
        """
        # An event with a delivery that waits, or a dead letter, is open.
        sets = (
            [self._keys.open]
            if wanted.state in (WAITING, HELD, "dead")
            else [self._keys.open, self._keys.finished, self._keys.packed]
        )
        views: list[EventView] = []
        span = Span(wanted.since_ms, received_ms(before) if before else wanted.until_ms)
        async for members in walk(self._client, sets, span, newest_first=True, page=READ_AT_ONCE):
            ids = [
                member.id
                for member in members
                if of_source(member.id, wanted.source) and (before is None or member.id < before)
            ]
            views += await self._views(ids, wanted, limit - len(views))
            if len(views) >= limit:
                break
        return views

    async def duplicates(
        self, span: Span, source: str | None, limit: int, before: str | None = None
    ) -> list[CopyView]:
        """Return up to `limit` recorded duplicates, newest first; `before` as of `events`.

        Raises: StoreUnavailable.
        """
        views: list[CopyView] = []
        if before is not None:
            span = Span(span.since_ms, received_ms(before))
        async for page in self._newest(self._keys.duplicates, span, source):
            members = [member for member in page if before is None or member.id < before]
            with translated():
                pipe = self._client.redis.pipeline(transaction=False)
                for member in members:
                    pipe.hmget(self._keys.duplicate(member.id), COPY)
                    pipe.hexists(self._keys.duplicate(member.id), "body")
                replies = await pipe.execute()
            for member, copy, own_body in zip(members, replies[::2], replies[1::2], strict=True):
                if copy[0] is not None:  # else it has expired, and retention has not removed its id yet
                    views.append(copy_view(member.id, copy, own_body=bool(own_body)))
            if len(views) >= limit:
                break
        return views[:limit]

    async def quarantined(self, span: Span, source: str | None, limit: int) -> list[QuarantineView]:
        """Return up to `limit` quarantined requests, newest first. Raises: StoreUnavailable."""
        views: list[QuarantineView] = []
        async for members in self._newest(self._keys.quarantine, span, source):
            with translated():
                pipe = self._client.redis.pipeline(transaction=False)
                for member in members:
                    pipe.hmget(self._keys.quarantined(member.id), QUARANTINED)
                    pipe.hstrlen(self._keys.quarantined(member.id), "body")
                replies = await pipe.execute()
            for member, found, size in zip(members, replies[::2], replies[1::2], strict=True):
                if found[0] is not None:
                    views.append(quarantine_view(member.id, found, size))
            if len(views) >= limit:
                break
        return views[:limit]

    async def in_quarantine(self) -> int:
        """Return how many requests are in quarantine. Raises: StoreUnavailable."""
        with translated():
            return int(await self._client.redis.zcard(self._keys.quarantine))

    async def quarantine_codes(self) -> dict[str, int]:
        """Return the codes of requests in quarantine, each with its count. Raises: StoreUnavailable."""
        codes: Counter[str] = Counter()
        async for members in self._newest(self._keys.quarantine, ALWAYS, None):
            with translated():
                pipe = self._client.redis.pipeline(transaction=False)
                for member in members:
                    pipe.hget(self._keys.quarantined(member.id), "code")
                codes.update(code.decode() for code in await pipe.execute() if code is not None)
        return dict(codes)

    async def views(self, ids: Sequence[str], wanted: Search = ALL) -> list[EventView]:
        """Return the events among `ids` that are there and searched for. Raises: StoreUnavailable."""
        return await self._views(ids, wanted, len(ids))

    async def _newest(self, key: str, span: Span, source: str | None) -> AsyncIterator[list[Member]]:
        async for members in walk(self._client, [key], span, newest_first=True, page=READ_AT_ONCE):
            yield [member for member in members if of_source(member.id, source)]

    async def _views(self, ids: Sequence[str], wanted: Search = ALL, limit: int = 1) -> list[EventView]:
        """Return up to `limit` of the events among `ids` that are there and searched for."""
        heads = await read_fields(self._client, [(id, HEAD) for id in ids])
        rows = [
            (id, head)
            for id, head in zip(ids, heads, strict=True)
            if head[0] is not None and wanted.takes_type(read_context(head[0]).type)
        ]
        views: list[EventView] = []
        for start in range(0, len(rows), DATA_AT_ONCE):
            part = await self._complete(rows[start : start + DATA_AT_ONCE])
            views += await self._searched([view for view in part if takes(wanted, view)], wanted)
            if len(views) >= limit:
                break
        return views[:limit]

    async def _searched(self, views: list[EventView], wanted: Search) -> list[EventView]:
        """Return those of these events whose attempts and payloads are searched for, too."""
        if wanted.of_attempts:
            attempts = await read_attempts(self._client, [view.id for view in views])
            views = [view for view, made in zip(views, attempts, strict=True) if takes_attempts(wanted, made)]
        if wanted.of_payload:
            records = await read_records(self._client, [view.id for view in views])
            pairs = zip(views, records, strict=True)
            views = [view for view, record in pairs if record is not None and takes_payload(wanted, record)]
        return views

    async def _complete(self, heads: Sequence[tuple[str, list[Any]]]) -> list[EventView]:
        """Return events from their `heads` (id, fields of `HEAD`), reading the rest."""
        names = [[name for name in head[1].decode().split(",") if name] for _, head in heads]
        replies = await read_fields(
            self._client,
            [
                (id, ["data", *(f"end:{target}" for target in targets)])
                for (id, _), targets in zip(heads, names, strict=True)
            ],
        )
        rows = [
            (id, head, data, dict(zip(targets, ends, strict=True)))
            for (id, head), targets, (data, *ends) in zip(heads, names, replies, strict=True)
            if data is not None
        ]
        held = await self._held(
            [
                (id, target, head[6].decode())
                for id, head, _, ends in rows
                if head[5] and head[6]
                for target in head[5].decode().strip(",").split(",")
                if target in ends and ends[target] is None
            ]
        )
        return [event_view(id, head, data, ends, held.get(id, {})) for id, head, data, ends in rows]

    async def _held(self, places: Sequence[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
        """Return event → target → the dead letter that it waits behind.

        `places` are event, target, transaction.
        """
        if not places:
            return {}
        redis: Any = self._client.redis
        with translated():
            pipe = redis.pipeline(transaction=False)
            for _, target, transaction in places:
                pipe.lindex(self._keys.lane(target, transaction), 0)
            firsts = [first.decode() if first else "" for first in await pipe.execute()]
            pipe = redis.pipeline(transaction=False)
            for (_, target, _), first in zip(places, firsts, strict=True):
                pipe.hmget(self._keys.event(first), ["open", f"end:{target}"])
            ends = await pipe.execute()
        held: dict[str, dict[str, str]] = {}
        for (id, target, _), first, (open_, end) in zip(places, firsts, ends, strict=True):
            # If the dead letter was moved to the disk, its event may be gone from Redis.
            if first not in ("", id) and (open_ is None or end is not None):
                held.setdefault(id, {})[target] = first
        return held
