"""The commit: requests that wait in the same moment go into the inbox together.

It also knows when not to: a Redis that is unfit, gone or nearly full gets nothing, nor does a source whose
inbox is full, so that one noisy source never takes the others' room; and it says why.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
# Commits under way, and the requests that are worth one beside others: fewer cost more than their waiting.
AT_ONCE, WORTHWHILE = 8, 8
WATCH_S = 1.0
# Workers need room to work in: an event that is admitted and delivered takes more than one in the inbox.
FULL, FULL_NO_MORE = 0.80, 0.75
# Of an inbox's limits: a source that is refused is taken from again once so much of its backlog is gone.
DRAINED = 0.90


class Committer:
    """Commits requests to the inbox of one Redis."""

    def __init__(self, client: RedisClient, config: Config) -> None:
        self._client = client
        self._inbox = Inbox(client, wait_replicas=config.redis.wait_replicas)
        self._upkeep = Upkeep(client)
        self._require_aof = config.redis.require_aof
        self._group: GroupCommit[Received, str] = GroupCommit(
            self._put, limit=BATCH, at_once=AT_ONCE, worthwhile=WORTHWHILE
        )
        self._checked = False
        # Sources that sent something since the last look.
        self._busy: set[str] = set()
        self._full: dict[str, str] = {}
        self._look_now = asyncio.Event()
        self._refusal: str | None = "Redis has not been reached yet"
        self._told: str | None = self._refusal
        self.use(config)

    def use(self, config: Config) -> None:
        """Take up a configuration, from the next look at the inboxes on."""
        self._sources = frozenset(source.name for source in config.sources)
        self._most_events = config.ingress.max_inbox_events
        self._most_bytes = config.ingress.max_inbox_bytes

    @property
    def refusal(self) -> str | None:
        """Why nothing is committed now, from any source; None while all is well."""
        if self._refusal is None and self._full and self._full.keys() >= self._sources:
            return "the inbox of every source is full"
        return self._refusal

    @property
    def full(self) -> Mapping[str, str]:
        """The sources whose inbox is full, and what is in it: from them nothing is committed now."""
        return self._full

    def commit(self, received: Received, done: Callable[[str | Exception], None]) -> None:
        """Have `done` called with the event's id once it is safe in Redis, or with why it is not.

        At once, where nothing is to be waited for.
        """
        self._busy.add(received.source)
        if self._refusal is not None:
            done(StoreUnavailable(self._refusal))
        elif received.source in self._full:
            done(StoreUnavailable(self._full[received.source]))
        else:
            self._group.add(received, done)

    async def _put(self, batch: Sequence[Received]) -> Sequence[str | Exception]:
        try:
            return await self._inbox.put(batch)
        except StoreUnavailable as error:
            # Whatever answers next may be another server, or the same one with other settings. Until it has
            # been looked at, requests are refused at once and do not each wait for a time-out.
            reason = str(error)
            self._checked = False
            self._refusal = self._refusal or reason  # other commits fail with the first one
            self._look_now.set()
            raise StoreUnavailable(reason) from None

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
            busy, self._busy = self._busy, set()
            if busy or self._refusal is not None:
                used = await self._upkeep.memory_used()
                limit = FULL if self._refusal is None else FULL_NO_MORE
                self._refusal = f"Redis is full: {used:.0%} of maxmemory" if used > limit else None
            await self._look_into_inboxes(busy)
        except (StoreUnavailable, StoreUnfit) as error:
            self._checked = False
            self._refusal = str(error)
        if self._refusal != before:
            self._told = self._refusal
            if self._refusal is None:
                log.info("accepting")
            else:
                log.error("refusing", reason=self._refusal)

    async def _look_into_inboxes(self, busy: set[str]) -> None:
        """Find the inboxes that are full, among those that were written to, and those that are so no more.

        Between two looks an inbox may grow past its limit, by what comes in a second.

        Raises: StoreUnavailable.
        """
        looked_at = [source for source in busy | self._full.keys() if source in self._sources]
        backlogs = await self._inbox.backlogs(looked_at) if looked_at else []
        full = {}
        for source, backlog in zip(looked_at, backlogs, strict=True):
            share = max(backlog.events / self._most_events, backlog.bytes / self._most_bytes)
            if share > (DRAINED if source in self._full else 1):
                full[source] = f"the inbox is full: {backlog.events:,} events, {backlog.bytes:,} bytes wait"
        for source in full.keys() - self._full.keys():
            log.error("refusing a source", source=source, reason=full[source])
        for source in self._full.keys() - full.keys():
            log.info("accepting a source", source=source)
        self._full = full

    async def close(self) -> None:
        """Finish what is under way."""
        await self._group.flush()
