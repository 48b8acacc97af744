"""Decides whether requests may be committed: of all sources, and of each.

Nothing is committed while Redis is unfit, gone or nearly full. Nothing is committed from a source whose inbox
is full or that is past its share of memory, so that no source takes the room of others.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import msgspec
import structlog

from shared.errors import StoreUnavailable, StoreUnfit
from shared.settings import Config
from shared.store.address import parse_address
from shared.store.archive_state import published
from shared.store.client import TOO_FEW_REPLICAS, RedisClient
from shared.store.fitness import inspect
from shared.store.inbox import Inbox
from shared.store.layout import take_up
from shared.store.shares import Memory, Shares, Verdict
from shared.store.upkeep import Upkeep

log = structlog.get_logger()

# The limit of a look and of a commit, each with connecting: a provider gets its 503 within two seconds.
REDIS_TIMEOUT_S = 1.5
WATCH_S = 1.0
# Workers need room: an event that was admitted takes more memory than one in the inbox.
FULL, FULL_NO_MORE = 0.80, 0.75
# A refused source is accepted again once its backlog is below this part of the limits.
DRAINED = 0.90


class Refusal(msgspec.Struct, frozen=True):
    """Why nothing is committed. `word` may be shown to strangers; `detail` is for the log."""

    word: str
    detail: str


STARTING = Refusal("starting", "Redis has not been looked at yet")
INBOXES_FULL = Refusal("inboxes-full", "the inbox of every source is full")
# Errors by which a Redis that answers refuses. After any other error it counts as gone.
WORDS = {
    "OutOfMemoryError": "redis-full",
    "ReadOnlyError": "redis-unfit",
    "ResponseError": "redis-unfit",
    "AuthenticationError": "redis-unfit",
    "NoPermissionError": "redis-unfit",
    TOO_FEW_REPLICAS: "redis-unfit",
}


class Acceptance:
    """Checks Redis once a second, over connections of its own, and says what is refused."""

    def __init__(self, config: Config) -> None:
        self._client = RedisClient(
            parse_address(config.redis.url, config.redis.prefix), timeout_s=REDIS_TIMEOUT_S
        )
        self._inbox = Inbox(self._client)
        self._upkeep = Upkeep(self._client)
        self._shares = Shares(self._client)
        self._require_aof = config.redis.require_aof
        self._wait_replicas = config.redis.wait_replicas
        self._checked = self._taken_up = False
        # Sources whose requests were committed since the last look.
        self._busy: set[str] = set()
        self._full: dict[str, str] = {}
        self._stranded = 0
        self._archive_behind = False
        self._look_now = asyncio.Event()
        self._refusal: Refusal | None = STARTING
        self._told: Refusal | None = STARTING
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration from the next look on."""
        share = config.limits.memory_share
        self._sources = {source.name: source.share or share for source in config.sources}
        self._most_events = config.ingress.max_inbox_events
        self._most_bytes = config.ingress.max_inbox_bytes
        self._archives = bool(config.archive.url)

    @property
    def refusal(self) -> Refusal | None:
        """Why nothing is committed from any source, as of the last look; None if all is well."""
        if self._refusal is None and self._full and self._full.keys() >= self._sources.keys():
            return INBOXES_FULL
        return self._refusal

    @property
    def full(self) -> Mapping[str, str]:
        """The sources from which nothing is committed now, each with the reason."""
        return self._full

    @property
    def stranded(self) -> int:
        """How many sources left the configuration while requests were in their inboxes."""
        return self._stranded

    @property
    def archive_behind(self) -> bool:
        """Whether the archive takes nothing now, or is late."""
        return self._archive_behind

    def insist(self, source: str) -> None:
        """Raises: StoreUnavailable if nothing is committed from this source now."""
        self._busy.add(source)
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal.detail)
        if source in self._full:
            raise StoreUnavailable(self._full[source])

    def commit_failed(self, error: StoreUnavailable) -> None:
        """Refuse all requests until the next look, which follows soon.

        The Redis that answers next may be another server, or have other settings, and requests must not each
        wait for a time-out.
        """
        self._checked = False
        self._refusal = self._refusal or _refusal(error)  # other commits fail together with the first
        self._look_now.set()

    async def watch(self) -> None:
        """Look once a second, and after every commit that failed."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._look_now.wait()
            self._look_now.clear()
            await self.check()

    async def check(self) -> None:
        """Look once, and set `refusal`."""
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                self._refusal = await self._look()
        except TimeoutError:
            self._refusal = Refusal("redis-unreachable", f"Redis did not answer within {REDIS_TIMEOUT_S} s")
        except (StoreUnavailable, StoreUnfit) as error:
            self._refusal = _refusal(error)
        if self._refusal is not None:
            self._checked = False
        if self._refusal != self._told:
            self._told = self._refusal
            if self._refusal is None:
                log.info("accepting")
            else:
                log.error("refusing", reason=self._refusal.detail)

    async def _look(self) -> Refusal | None:
        """Ask Redis whether it can keep what is committed. Raises: StoreUnavailable, StoreUnfit."""
        if not self._checked:
            (await inspect(self._client, require_aof=self._require_aof)).insist()
            if not self._taken_up:
                # Only once: during a rolling upgrade, Redis may later have a layout that is not known here.
                await take_up(self._client, self._sources)
                self._taken_up = True
            self._checked = True
        await self._upkeep.prove_writable(replicas=self._wait_replicas)
        busy, self._busy = self._busy, set()
        memory, verdict = await self._shares.memory(), await self._shares.verdict()
        self._stranded = len(verdict.stranded)
        state = await published(self._client) if self._archives else None
        self._archive_behind = state is not None and (bool(state.error) or state.is_late)
        await self._look_into_inboxes(busy, memory, verdict)
        used = memory.used_share
        limit = FULL_NO_MORE if self._refusal is not None and self._refusal.word == "redis-full" else FULL
        return Refusal("redis-full", f"Redis is full: {used:.0%} of maxmemory") if used > limit else None

    async def _look_into_inboxes(self, busy: set[str], memory: Memory, verdict: Verdict) -> None:
        """Find, among the inboxes that were written to, those that are full now, and those that no longer
        are.

        An inbox may take at most its source's share of memory. Workers measure the rest of that share.

        Between two looks an inbox may grow past its limit, by the requests of a second.

        Raises: StoreUnavailable.
        """
        looked_at = [source for source in busy | self._full.keys() if source in self._sources]
        backlogs = await self._inbox.backlogs(looked_at) if looked_at else []
        full = {}
        for source, backlog in zip(looked_at, backlogs, strict=True):
            most_bytes = min(self._most_bytes, self._sources[source] * (memory.most or self._most_bytes))
            filled = max(backlog.events / self._most_events, backlog.bytes / most_bytes)
            if filled > (DRAINED if source in self._full else 1):
                full[source] = f"the inbox is full: {backlog.events:,} events, {backlog.bytes:,} bytes wait"
        full |= {
            source: why for source, why in verdict.sources.items() if source in self._sources.keys() - full
        }
        for source in full.keys() - self._full.keys():
            log.error("refusing a source", source=source, reason=full[source])
        for source in self._full.keys() - full.keys():
            log.info("accepting a source", source=source)
        self._full = full

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()


def _refusal(error: StoreUnavailable | StoreUnfit) -> Refusal:
    detail = str(error)
    if isinstance(error, StoreUnfit):
        return Refusal("redis-unfit", detail)
    return Refusal(WORDS.get(detail.partition(":")[0], "redis-unreachable"), detail)
