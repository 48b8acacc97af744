"""Reads finished events and recorded duplicates for the archive, and removes what is there.

`shared.operations.archiving` has the order of the steps.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.archive.event import OWN, ArchivedCopy, ArchivedEvent
from shared.event.ids import received_ms
from shared.event.record import JSON
from shared.store.client import RedisClient, translated
from shared.store.events import Whole, read_first, read_whole


class Batch(msgspec.Struct, frozen=True):
    """Events and duplicates as they were read. `read` are the arguments of archived.lua for each, in that
    order.
    """

    events: list[ArchivedEvent] = []
    copies: list[ArchivedCopy] = []
    read: list[list[str | bytes | int | float]] = []


class Backlog(msgspec.Struct, frozen=True):
    """How many records are finished, and when the oldest of them came in, in milliseconds since 1970."""

    records: int
    oldest_ms: int | None


class Finished:
    """What Redis holds of finished events and of duplicates. All methods raise StoreUnavailable."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def oldest(self, before_ms: int, count: int, but: frozenset[str] = frozenset()) -> Batch:
        """Return about `count` of the oldest events and duplicates that came in before a time, without those
        in `but`.

        They are fewer if they are large; if there are none, there is nothing to return.
        """
        keys = [self._keys.finished, self._keys.packed, self._keys.duplicates]
        with translated():
            pipe = self._client.redis.pipeline(transaction=True)
            for key in keys:
                pipe.zrangebyscore(
                    key, "-inf", f"({before_ms}", start=0, num=count + len(but), withscores=True
                )
            replies = await pipe.execute()
        found = sorted(
            (int(ms), id.decode(), key == self._keys.duplicates)
            for key, reply in zip(keys, replies, strict=True)
            for id, ms in reply
        )
        wanted = [(id, is_copy) for _, id, is_copy in found if id not in but][:count]
        events = [id for id, is_copy in wanted if not is_copy]
        return _joined(
            await self._events(events), await self._copies([id for id, is_copy in wanted if is_copy])
        )

    async def _events(self, ids: Sequence[str]) -> Batch:
        if not ids:
            return Batch()
        batch = Batch()
        for id, whole in zip(ids, await read_first(self._client, ids), strict=False):
            if whole is not None and b"attributes" in whole.fields:
                event = _event(id, whole)
                batch.events.append(event)
                batch.read.append(_as_read(event, whole))
            elif whole is None:  # nothing is left of it but its place in the set
                with translated():
                    await self._client.redis.zrem(self._keys.finished, id)
                    await self._client.redis.zrem(self._keys.packed, id)
        return batch

    async def _copies(self, ids: Sequence[str]) -> Batch:
        redis: Any = self._client.redis
        with translated():
            pipe = redis.pipeline(transaction=False)
            for id in ids:
                pipe.hgetall(self._keys.duplicate(id))
            replies = await pipe.execute() if ids else []
            expired = [id for id, fields in zip(ids, replies, strict=True) if not fields]
            if expired:
                await redis.zrem(self._keys.duplicates, *expired)
        found = [_copy(id, fields) for id, fields in zip(ids, replies, strict=True) if fields]
        return Batch([], found, [[copy.id, 0, 0, 0] for copy in found])

    async def whole(self, ids: Sequence[str]) -> list[ArchivedEvent]:
        """Return those of these events that are there and finished, whole."""
        found = zip(ids, await read_whole(self._client, ids), strict=True)
        return [
            _event(id, whole)
            for id, whole in found
            if whole is not None and whole.fields.get(b"open") == b"0" and b"attributes" in whole.fields
        ]

    async def remove(self, batch: Batch) -> int:
        """Remove what is in the archive, unless it has changed since. Returns how many are gone."""
        args = [arg for each in batch.read for arg in each]
        return sum(await self._client.run("archived", [], args)) if args else 0

    async def backlog(self, before_ms: int) -> Backlog:
        """Return how much that came in before a time the archive has yet to take."""
        keys = [self._keys.finished, self._keys.packed, self._keys.duplicates]
        with translated():
            pipe = self._client.redis.pipeline(transaction=True)
            for key in keys:
                pipe.zcount(key, "-inf", f"({before_ms}")
                pipe.zrangebyscore(key, "-inf", f"({before_ms}", start=0, num=1, withscores=True)
            replies = await pipe.execute()
        firsts = [int(reply[0][1]) for reply in replies[1::2] if reply]
        return Backlog(sum(replies[::2]), min(firsts, default=None))


async def put_back(client: RedisClient, copy: ArchivedCopy) -> None:
    """Put an archived duplicate back into Redis, unless its receipt stands for something else there by now.

    Raises: StoreUnavailable.
    """
    keys = client.keys
    fields: dict[Any, Any] = {"of": copy.copy_of, "source": copy.source, "digest": copy.digest}
    fields |= {"headers": copy.headers} if copy.headers else {}
    fields |= {"body": copy.body} if copy.body is not None else {}
    fields |= {"differs": "1"} if copy.differs else {}
    with translated():
        if not await client.redis.exists(keys.event(copy.id), keys.duplicate(copy.id)):
            pipe = client.redis.pipeline(transaction=True)
            pipe.hset(keys.duplicate(copy.id), mapping=fields)
            pipe.zadd(keys.duplicates, {copy.id: received_ms(copy.id)})
            await pipe.execute()


def _joined(first: Batch, second: Batch) -> Batch:
    return Batch(first.events + second.events, first.copies + second.copies, first.read + second.read)


def _event(id: str, whole: Whole) -> ArchivedEvent:
    fields = {name.decode(): value for name, value in whole.fields.items()}
    return ArchivedEvent(
        id=id,
        attributes=fields["attributes"],
        data=fields["data"],
        body=fields["body"],
        content_type=fields.get("type", JSON.encode()).decode(),
        fields={name: value for name, value in fields.items() if name not in OWN},
        attempts={field.decode(): attempt for field, attempt in whole.attempts.items()},
    )


def _as_read(event: ArchivedEvent, whole: Whole) -> list[str | bytes | int | float]:
    """Return the arguments of archived.lua: what an event that has changed since would have otherwise."""
    own = dict(event.fields)
    if whole.packed is not None:
        own["packed"] = whole.packed
    args: list[str | bytes | int | float] = [event.id, whole.count, len(whole.apart), len(own)]
    for name, value in own.items():
        args += [name, value]
    return args


def _copy(id: str, fields: dict[bytes, bytes]) -> ArchivedCopy:
    body = fields.get(b"body")
    return ArchivedCopy(
        id=id,
        source=fields[b"source"].decode(),
        copy_of=fields[b"of"].decode(),
        differs=None if body is not None and b"differs" not in fields else b"differs" in fields,
        digest=fields[b"digest"].decode(),
        headers=fields.get(b"headers", b""),
        body=body,
    )
