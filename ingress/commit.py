"""The commit: requests that wait in the same moment go into the inbox together."""

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
# Commits under way, and the requests that are worth one beside others: fewer cost more than their waiting.
AT_ONCE, WORTHWHILE = 8, 8


class Committer:
    """Commits requests to the inbox of one Redis, as long as `acceptance` has nothing against it."""

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
        """Take up a configuration."""
        for source in config.sources:
            envelope(Doorbell(ADMIT, source.name))  # rendered now: no request waits for Celery
        self._most_in_flight = config.ingress.max_requests_in_flight

    async def commit(self, received: Received) -> str:
        """Return the event's id once it is safe in Redis.

        Raises: StoreUnavailable; at once, if nothing is to be waited for.
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
        """Finish what is under way, and close every connection."""
        await self._group.flush()
        await self._client.close()
