"""Counts what takes Redis's memory and retention may not remove."""

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.store.client import RedisClient, translated

SAMPLE = 16


class Holding(msgspec.Struct, frozen=True):
    """How many there are of each. `waiting` events have a delivery that is not done, or a dead letter.

    `dedupe_keys` is an estimate; a key expires when its window is over.
    """

    inbox: int
    waiting: int
    quarantined: int
    dedupe_keys: int


async def holding(client: RedisClient, sources: Sequence[str]) -> Holding:
    """Count these, and estimate the dedupe keys of `sources`. Raises: StoreUnavailable."""
    with translated():
        pipe = client.redis.pipeline(transaction=False)
        pipe.zcard(client.keys.open)
        pipe.zcard(client.keys.quarantine)
        for source in sources:
            pipe.xlen(client.keys.inbox(source))
            pipe.get(client.keys.dedupe(source))
        waiting, quarantined, *found = await pipe.execute()
    held = 0
    for source, tables in zip(sources, found[1::2], strict=True):
        for table in tables.decode().split(" ")[1:] if tables else ():
            number, bits, _ = table.split(":")
            held += await _in_table(client, f"{client.keys.dedupe(source)}:{number}:", 2 ** int(bits))
    return Holding(sum(found[::2]), waiting, quarantined, held)


async def _in_table(client: RedisClient, prefix: str, hashes: int) -> int:
    """Estimate how many keys a table has from a few of its hashes: digests spread evenly over them."""
    places = range(0, hashes, max(1, hashes // SAMPLE))
    redis: Any = client.redis
    with translated():
        pipe = redis.pipeline(transaction=False)
        for place in places:
            pipe.hlen(f"{prefix}{place}")
        lengths = await pipe.execute()
    return int(sum(lengths) * hashes / len(places))
