"""Reads events from Redis. A finished event may be packed: the part of it that never changes, and its
attempts, are then one compressed value (shared.event.packing), in pieces. The rest is in its hash as before.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.errors import StoreUnreadable
from shared.event.packing import Packed, unpack
from shared.event.record import JSON, EventRecord
from shared.store.client import RedisClient, translated

PIECES = tuple(str(number) for number in range(64))
"""The fields of a packed value's pieces, as in pack.lua."""

# Redis keeps a reply in memory until it is sent: one must not fill a Redis that is nearly full.
READ_BYTES = 1024 * 1024
AT_ONCE = 50  # packed events, with their bodies

Attempts = dict[bytes, bytes]
"""`<target> <lease>` → JSON of one attempt."""


class Whole(msgspec.Struct, frozen=True):
    """All that Redis holds of an event: its fields as if it were not packed, and its attempts.

    `packed` is the field of that name: when it was packed; None if it is not. `apart` are the attempts that
    are not packed with it. `count` is how many fields its hash has.
    """

    fields: dict[bytes, bytes]
    attempts: Attempts
    packed: bytes | None
    apart: tuple[bytes, ...]
    count: int


async def read_fields(client: RedisClient, wanted: Sequence[tuple[str, Sequence[str]]]) -> list[list[Any]]:
    """Return, for each event, some fields of its hash; each is None if the event is gone.

    `wanted` are ids, each with the names of its fields. Raises: StoreUnavailable.
    """
    redis: Any = client.redis
    with translated():
        pipe = redis.pipeline(transaction=False)
        for id, names in wanted:
            pipe.hmget(client.keys.event(id), [*names, "packed"])
        rows: list[list[Any]] = await pipe.execute() if wanted else []
        packed = [
            number
            for number, (row, (_, names)) in enumerate(zip(rows, wanted, strict=True))
            if row.pop() is not None and not _PACKED.isdisjoint(names)
        ]
        for start in range(0, len(packed), AT_ONCE):
            part = packed[start : start + AT_ONCE]
            pipe = redis.pipeline(transaction=False)
            for number in part:
                pipe.hmget(client.keys.event(wanted[number][0]), PIECES)
            for number, pieces in zip(part, await pipe.execute(), strict=True):
                id, names = wanted[number]
                if (found := _unpacked(id, pieces)) is None:  # retention came between
                    rows[number] = [None] * len(names)
                else:
                    fields = _fields(found)
                    rows[number] = [
                        fields.get(name.encode()) if name in _PACKED else value
                        for name, value in zip(names, rows[number], strict=True)
                    ]
    return rows


async def read_records(client: RedisClient, ids: Sequence[str]) -> list[EventRecord | None]:
    """Return events as they are delivered, None for one that is gone. Raises: StoreUnavailable."""
    rows = await read_fields(client, [(id, ["attributes", "data", "body", "type"]) for id in ids])
    return [
        None
        if attributes is None
        else EventRecord(id, attributes, data, body, type_.decode() if type_ else JSON)
        for id, (attributes, data, body, type_) in zip(ids, rows, strict=True)
    ]


async def read_attempts(client: RedisClient, ids: Sequence[str]) -> list[Attempts]:
    """Return the attempts to deliver each event. Raises: StoreUnavailable."""
    redis: Any = client.redis
    with translated():
        # One transaction: an event may be packed between.
        pipe = redis.pipeline(transaction=True)
        for id in ids:
            pipe.hgetall(client.keys.attempts(id))
            pipe.hmget(client.keys.event(id), PIECES)
        replies = await pipe.execute() if ids else []
    return [
        all_attempts(id, apart, pieces)
        for id, apart, pieces in zip(ids, replies[::2], replies[1::2], strict=True)
    ]


def all_attempts(event_id: str, apart: Attempts, pieces: Sequence[bytes | None]) -> Attempts:
    """Return the attempts to deliver an event, from those in their own hash and the packed value's pieces."""
    packed = _unpacked(event_id, pieces)
    return apart if packed is None else _attempts(packed) | apart


async def read_whole(client: RedisClient, ids: Sequence[str]) -> list[Whole | None]:
    """Return all that Redis holds of events; None for one that is gone. Raises: StoreUnavailable."""
    redis: Any = client.redis
    with translated():
        pipe = redis.pipeline(transaction=False)
        for id in ids:
            pipe.hgetall(client.keys.event(id))
            pipe.hgetall(client.keys.attempts(id))
        replies = await pipe.execute() if ids else []
    return [
        _whole(id, fields, attempts) if fields else None
        for id, fields, attempts in zip(ids, replies[::2], replies[1::2], strict=True)
    ]


async def read_first(client: RedisClient, ids: Sequence[str]) -> list[Whole | None]:
    """Return all that Redis holds of the first of these events, as many as take about READ_BYTES together,
    and one at least; None for one that is gone. It is one script: a pipeline of commands costs several times
    as much.

    Raises: StoreUnavailable.
    """
    if not ids:
        return []
    replies = await client.run("read", [], [READ_BYTES, *ids])
    hashes = [dict(zip(reply[::2], reply[1::2], strict=True)) for reply in replies]
    return [
        _whole(id, fields, attempts) if fields else None
        for id, fields, attempts in zip(ids, hashes[::2], hashes[1::2], strict=False)
    ]


async def fitting(client: RedisClient, ids: Sequence[str]) -> int:
    """Return how many of these events, from the first on, take about READ_BYTES together; at least one.

    Raises: StoreUnavailable.
    """
    with translated():
        pipe = client.redis.pipeline(transaction=False)
        for id in ids:
            for name in ("body", "data", PIECES[0]):
                pipe.hstrlen(client.keys.event(id), name)
        sizes: list[int] = await pipe.execute()
    size, most = 0, 0
    for each in map(sum, zip(sizes[::3], sizes[1::3], sizes[2::3], strict=True)):
        size += each
        if most and size > READ_BYTES:
            break
        most += 1
    return most


_PACKED = frozenset({"attributes", "data", "body", "type"})


def _unpacked(event_id: str, pieces: Sequence[bytes | None]) -> Packed | None:
    value = b"".join(piece for piece in pieces if piece is not None)
    try:
        return unpack(event_id, value) if value else None
    except ValueError as error:
        raise StoreUnreadable(str(error)) from None


def _fields(packed: Packed) -> dict[bytes, bytes]:
    fields = {b"attributes": packed.attributes, b"data": packed.data, b"body": packed.body}
    return fields if packed.content_type == JSON else fields | {b"type": packed.content_type.encode()}


def _attempts(packed: Packed) -> Attempts:
    return {field.encode(): attempt for field, attempt in packed.attempts.items()}


def _whole(id: str, fields: Mapping[bytes, bytes], apart: Attempts) -> Whole:
    found = _unpacked(id, [fields.get(name.encode()) for name in PIECES])
    if found is None:
        return Whole(dict(fields), apart, None, tuple(apart), len(fields))
    own = {name: value for name, value in fields.items() if name not in _NOT_ITS_OWN}
    return Whole(own | _fields(found), _attempts(found) | apart, fields[b"packed"], tuple(apart), len(fields))


_NOT_ITS_OWN = frozenset({b"packed", *(name.encode() for name in PIECES)})
