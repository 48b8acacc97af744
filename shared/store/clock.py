"""Redis's clock. All scores, leases and times of receipt are by it, so a worker's own clock has no effect."""

from collections.abc import Sequence

from shared.store.client import RedisClient, translated


async def now_ms(client: RedisClient) -> int:
    """Return the time by Redis's clock, in milliseconds since 1970. Raises: StoreUnavailable."""
    with translated():
        return in_ms(await client.redis.time())


def in_ms(reply: Sequence[int]) -> int:
    """Return what `TIME` replied, seconds and microseconds, in milliseconds."""
    seconds, micros = reply
    return int(seconds) * 1000 + int(micros) // 1000
