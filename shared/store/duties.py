"""Duties that only one worker has at a time, among those whose configurations have the same names."""

from shared.store.client import RedisClient


class Duty:
    """A lease on a duty. If two workers have it at once, the work is done twice, which is harmless."""

    def __init__(self, client: RedisClient, name: str, worker: str, *, lease_ms: int) -> None:
        """`worker` asks for it. Without a renewal, another worker may take it after `lease_ms`."""
        self._client = client
        self._keys = client.keys
        self._name = name
        self._worker = worker
        self._lease_ms = lease_ms

    async def mine(self, names: str) -> bool:
        """Take or renew the lease, unless another worker has it; return whether this one has it now.

        `names` is the digest of the configuration's names (`names_digest`). Raises: StoreUnavailable.
        """
        key = self._keys.duty(self._name, names)
        return bool(await self._client.run("duty", [key], [self._worker, self._lease_ms]))
