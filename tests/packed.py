"""Finished events, packed or not, read off Redis as `shared.store.keys` documents them."""

from typing import Any

from redis import Redis

from shared.event.packing import unpack


def finished(redis: Redis) -> list[str]:
    """Return the ids of all finished events."""
    found: list[Any] = [redis.zrange(key, 0, -1) for key in ("hr:finished", "hr:packed")]
    return [id.decode() for ids in found for id in ids]


def unpacked(id: str, fields: dict[bytes, bytes]) -> tuple[dict[bytes, bytes], list[str]]:
    """Return the fields of an event as if it were not packed, and the names of the attempts that are packed."""
    pieces = sorted(int(name) for name in fields if name.isdigit())
    if not pieces:
        return fields, []
    found = unpack(id, b"".join(fields[b"%d" % number] for number in pieces))
    left = {name: value for name, value in fields.items() if not name.isdigit() and name != b"packed"}
    return left | {b"attributes": found.attributes, b"data": found.data, b"body": found.body}, [
        *found.attempts
    ]
