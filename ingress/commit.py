"""The commit: requests that wait in the same moment go into the inbox together.

It also knows when not to: a Redis that is unfit, gone or nearly full gets nothing, and says why.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from shared.config import Config
from shared.errors import StoreUnavailable, StoreUnfit
from shared.grouping import GroupCommit
from shared.store.client import RedisClient
from shared.store.fitness import inspect
from shared.store.inbox import Inbox, Received
from shared.store.upkeep import Upkeep

log = structlog.get_logger()

BATCH = 256
WATCH_S = 1.0
# Connecting and every reply have a second each; both together stay below a provider's patience.
COMMIT_S = 1.5
# Workers need room to work in: an event that is admitted and delivered takes more than one in the inbox.
FULL, FULL_NO_MORE = 0.80, 0.75


class Committer:
    """Commits requests to the inbox of one Redis."""

    def __init__(self, client: RedisClient, config: Config) -> None:
        self._client = client
        self._inbox = Inbox(client, wait_replicas=config.redis.wait_replicas)
        self._upkeep = Upkeep(client)
        self._require_aof = config.redis.require_aof
        self._group: GroupCommit[Received, str] = GroupCommit(self._put, limit=BATCH)
        self._checked = False
        self._busy = False
        self._look_now = asyncio.Event()
        self._refusal: str | None = "Redis has not been reached yet"
        self._told: str | None = self._refusal

    @property
    def refusal(self) -> str | None:
        """Why nothing is committed now; None while all is well."""
        return self._refusal

    async def commit(self, received: Received) -> str:
        """Return the event's id once it is safe in Redis. Raises: StoreUnavailable."""
        self._busy = True
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal)
        return await self._group.add(received)

    async def _put(self, batch: Sequence[Received]) -> Sequence[str | Exception]:
        try:
            async with asyncio.timeout(COMMIT_S):
                return await self._inbox.put(batch)
        except (StoreUnavailable, TimeoutError) as error:
            # Whatever answers next may be another server, or the same one with other settings. Until it has
            # been looked at, requests are refused at once and do not each wait for a time-out.
            self._checked = False
            self._refusal = str(error) or "Redis did not answer in time"
            self._look_now.set()
            raise StoreUnavailable(self._refusal) from None

    async def watch(self) -> None:
        """Check Redis after every lost connection, and its memory while requests come."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._look_now.wait()
            self._look_now.clear()
            await self.check()

    async def check(self) -> None:
        """Look once, and set `refusal`."""
        before = self._told
        try:
            if not self._checked:
                (await inspect(self._client, require_aof=self._require_aof)).insist()
                self._checked = True
                self._refusal = None
            if self._busy or self._refusal is not None:
                self._busy = False
                used = await self._upkeep.memory_used()
                limit = FULL if self._refusal is None else FULL_NO_MORE
                self._refusal = f"Redis is full: {used:.0%} of maxmemory" if used > limit else None
        except (StoreUnavailable, StoreUnfit) as error:
            self._checked = False
            self._refusal = str(error)
        if self._refusal != before:
            self._told = self._refusal
            if self._refusal is None:
                log.info("accepting")
            else:
                log.error("refusing", reason=self._refusal)

    async def close(self) -> None:
        """Finish what is under way."""
        await self._group.flush()
