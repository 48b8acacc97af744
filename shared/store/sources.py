"""The names of sources that were ever configured: nobody admits from the inbox of one that left the
configuration.
"""

from collections.abc import Iterable
from typing import Any

from shared.store.client import RedisClient, translated
from shared.store.clock import now_ms

FORGOTTEN_AFTER_MS = 300_000
"""A source or a target counts as removed this long after a live process last named it."""


class Sources:
    """The sources as Redis knows them."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def know(self, names: Iterable[str]) -> None:
        """Record that a live process has these sources in its configuration. Raises: StoreUnavailable."""
        mine = list(names)
        with translated():
            if mine:
                now = await now_ms(self._client)
                await self._client.redis.zadd(self._keys.sources, dict.fromkeys(mine, now))

    async def with_inbox(self) -> list[str]:
        """Return the sources that have an inbox, recorded or not: earlier versions recorded none.

        It scans all keys, so call it seldom. Raises: StoreUnavailable.
        """
        redis: Any = self._client.redis
        prefix = self._keys.inbox("")
        with translated():
            found = [key async for key in redis.scan_iter(match=f"{prefix}*", count=1000)]
        return sorted({key.decode().removeprefix(prefix) for key in found})

    async def record(self, names: Iterable[str]) -> None:
        """Record the names of sources that are not on record. Raises: StoreUnavailable."""
        with translated():
            for name in names:
                await self._client.redis.zadd(self._keys.sources, {name: 0}, nx=True)

    async def on_record(self) -> list[str]:
        """Return every name on record. Raises: StoreUnavailable."""
        with translated():
            names: list[Any] = await self._client.redis.zrange(self._keys.sources, 0, -1)
        return [name.decode() for name in names]

    async def stranded(
        self, configured: Iterable[str], *, at_once: bool = False, also: Iterable[str] = ()
    ) -> dict[str, int]:
        """Return how many requests wait in the inboxes of sources that are not configured.

        A source that a live process named within five minutes is left out, unless `at_once`. `also` are names
        that may not be on record. Raises: StoreUnavailable.
        """
        redis: Any = self._client.redis
        with translated():
            before = "+inf" if at_once else await now_ms(self._client) - FORGOTTEN_AFTER_MS
            names = [name.decode() for name in await redis.zrangebyscore(self._keys.sources, "-inf", before)]
            names = [name for name in dict.fromkeys([*names, *also]) if name not in set(configured)]
            pipe = redis.pipeline(transaction=False)
            for name in names:
                pipe.xlen(self._keys.inbox(name))
            counts = dict(zip(names, await pipe.execute() if names else [], strict=True))
        return {name: count for name, count in counts.items() if count}
