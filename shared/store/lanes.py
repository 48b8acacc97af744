"""The transactions of ordered targets that a dead letter holds (`on_dead = "hold"`)."""

from collections.abc import Sequence

from shared.store.client import RedisClient, translated
from shared.store.walk import ALWAYS, walk

AT_ONCE = 500


class Lanes:
    """The held transactions of ordered targets."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def let_go(self, target: str) -> int:
        """Release every held transaction of a target. Returns how many. Raises: StoreUnavailable."""
        total = 0
        while count := await self._client.run("let_go", [self._keys.held(target)], [target, AT_ONCE]):
            total += count
        return total

    async def find(self, target: str) -> int:
        """Find held transactions by their dead letters: earlier versions of Headrace kept no record of them.

        Returns how many are new. Raises: StoreUnavailable.
        """
        found = 0
        async for members in walk(self._client, [self._keys.dead(target)], ALWAYS, newest_first=False):
            ids = [member.id for member in members]
            found += await self._client.run("find_held", [self._keys.held(target)], [target, *ids])
        return found

    async def held(self, targets: Sequence[str]) -> dict[str, int]:
        """Return how many events wait behind dead letters, by target. Raises: StoreUnavailable."""
        counts = dict.fromkeys(targets, 0)
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for target in targets:
                pipe.smembers(self._keys.held(target))
            found = await pipe.execute() if targets else []
            lanes = [
                (target, transaction.decode())
                for target, transactions in zip(targets, found, strict=True)
                for transaction in transactions
            ]
            for start in range(0, len(lanes), AT_ONCE):
                part = lanes[start : start + AT_ONCE]
                pipe = self._client.redis.pipeline(transaction=False)
                for target, transaction in part:
                    pipe.llen(self._keys.lane(target, transaction))
                for (target, _), length in zip(part, await pipe.execute(), strict=True):
                    counts[target] += max(0, length - 1)
        return counts
