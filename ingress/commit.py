"""Commits requests to the inbox. Requests that wait at the same moment go together."""

from collections.abc import Sequence

from ingress.acceptance import REDIS_TIMEOUT_S, Acceptance
from ingress.grouping import GroupCommit
from shared.errors import StoreUnavailable
from shared.settings import Config
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.doorbell import ADMIT, Doorbell, envelope
from shared.store.inbox import Inbox, Received

BATCH = 256
# The most commits at once, and the fewest requests of one beside others: fewer cost more than waiting.
AT_ONCE, WORTHWHILE = 8, 8


class Committer:
    """Commits requests to one Redis, if `acceptance` allows it."""

    def __init__(self, config: Config, acceptance: Acceptance) -> None:
        self._acceptance = acceptance
        self._client = RedisClient(
            parse_address(config.redis.url, config.redis.prefix), timeout_s=REDIS_TIMEOUT_S
        )
        self._inbox = Inbox(self._client, wait_replicas=config.redis.wait_replicas)
        self._group: GroupCommit[Received, str] = GroupCommit(
            self._put, limit=BATCH, at_once=AT_ONCE, worthwhile=WORTHWHILE
        )
        self._in_flight = 0
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration."""
        for source in config.sources:
            envelope(Doorbell(ADMIT, source.name))  # rendered now, so that no request waits for Celery
        self._most_in_flight = config.ingress.max_requests_in_flight

    async def commit(self, received: Received) -> str:
        """Return the event's id once it is safe in Redis.

        Raises: StoreUnavailable, at once if requests are refused now.
        """
        self._acceptance.insist(received.source)
        if self._in_flight >= self._most_in_flight:
            raise StoreUnavailable("ingress.max_requests_in_flight are being committed")
        self._in_flight += 1
        try:
            return await self._group.add(received)
        finally:
            self._in_flight -= 1

    async def _put(self, batch: Sequence[Received]) -> Sequence[str | Exception]:
        try:
            return await self._inbox.put(batch)
        except StoreUnavailable as error:
            self._acceptance.commit_failed(error)
            raise StoreUnavailable(str(error)) from None

    async def close(self) -> None:
        """Finish the commits under way, and close every connection."""
        await self._group.flush()
        await self._client.close()
