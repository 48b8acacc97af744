"""Reading dedupe keys back out of Redis, as `shared/store/keys.py` says that they are kept."""

from collections.abc import Iterable
from typing import Any

from redis import Redis

from shared.event.ids import source_tag


def dedupe_keys(name: str, packed: Iterable[bytes]) -> list[tuple[str, int]]:
    """Return, from the values of one hash, the ids of the events that hold its keys, and since when (ms)."""
    tag = source_tag(name.split(":")[2])
    held = []
    for value in packed:
        received = int.from_bytes(value[:6], "big")
        last, _, late = value[6:].decode().partition("+")
        held.append((f"evt_{received:011x}{tag}{last}", received + int(late or "0", 16)))
    return held


def holders(redis: Redis) -> set[str]:
    """Return the ids of all events that hold a dedupe key."""
    names: list[Any] = redis.keys("hr:dedupe:*:*")
    found = set()
    for name in names:
        packed: list[Any] = redis.hvals(name)
        found |= {id for id, _ in dedupe_keys(name.decode(), packed)}
    return found
