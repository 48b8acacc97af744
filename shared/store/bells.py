"""Ringing doorbells, and lowering their flags."""

from collections.abc import Iterable

from shared.errors import StoreUnavailable
from shared.store.client import NamedCall, RedisClient, translated
from shared.store.doorbell import Doorbell, envelope
from shared.store.keys import Keys

OUTSTANDING_MS = 1000
LONGEST_QUEUE = 1000


def ring_arguments(keys: Keys, bell: Doorbell) -> tuple[list[str], list[str | bytes | int]]:
    """Return the keys and arguments of `ring.lua`."""
    return [keys.rung(bell.name), keys.queue], [envelope(bell), OUTSTANDING_MS, LONGEST_QUEUE]


class Bells:
    """Rings each doorbell at most once a second. Who answers one lowers its flag before looking."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def ring(self, bells: Iterable[Doorbell]) -> None:
        """Ring each of `bells`, unless it is outstanding. Raises: StoreUnavailable."""
        calls: list[NamedCall] = [("ring", *ring_arguments(self._keys, bell)) for bell in bells]
        for reply in await self._client.run_each(calls):
            if isinstance(reply, StoreUnavailable):
                raise reply

    async def lower_flag(self, bell: Doorbell) -> None:
        """Lower a doorbell's flag, so that work that comes from now on rings again.

        Raises: StoreUnavailable.
        """
        with translated():
            await self._client.redis.delete(self._keys.rung(bell.name))

    async def drop_queued(self) -> tuple[str, int]:
        """Empty Celery's queue. Returns its type in Redis, and how many messages it held if it was a list.

        Raises: StoreUnavailable.
        """
        kind, length = await self._client.run("drop_queued", [self._keys.queue], [])
        return kind.decode(), length

    async def queued(self) -> int:
        """Return how many doorbells are in the queue. Raises: StoreUnavailable."""
        with translated():
            length: int = await self._client.redis.llen(self._keys.queue)
        return length
