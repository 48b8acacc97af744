"""What the sweep and retention ask of Redis: who sweeps, where work waits, what may be removed."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shared.store.client import WAIT_REPLICAS_MS, RedisClient, enough, translated
from shared.store.clock import now_ms
from shared.store.holding import Holding, holding
from shared.store.inbox import LEFT_BEHIND_MS
from shared.store.keys import GROUP

SWEEP_LEASE_MS = 1000
REMOVE_AT_ONCE = 200  # in one call, which takes Redis about a millisecond
READY_MS = 10_000


class Waiting(msgspec.Struct, frozen=True):
    """Where work waits: sources to admit from, targets with something due, targets with lapsed leases.

    `blocked`: targets with something due that get nothing now, each as `paused NAME` or `disabled NAME`.
    `held`: ordered targets with transactions that a dead letter holds.
    """

    sources: list[str]
    due: list[str]
    lapsed: list[str]
    blocked: list[str]
    held: list[str]


class Removed(msgspec.Struct, frozen=True):
    """How many records retention removed."""

    events: int = 0
    dead_letters: int = 0
    quarantined: int = 0
    duplicates: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.events + self.dead_letters + self.quarantined + self.duplicates

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(
            self.events + other.events,
            self.dead_letters + other.dead_letters,
            self.quarantined + other.quarantined,
            self.duplicates + other.duplicates,
        )


class Upkeep:
    """The sweeper's view of the store."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def prove_writable(self, *, replicas: int = 0) -> None:
        """Write to Redis. Raises: StoreUnavailable if it takes no writes, or too few replicas confirm it."""
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            pipe.set(self._keys.ready, "1", px=READY_MS)
            if replicas:
                pipe.wait(replicas, WAIT_REPLICAS_MS)
            enough(await pipe.execute(), replicas)

    async def count_unknown(self, source: str, count: int) -> None:
        """Count events of a source whose type is unknown. The count is a hint: a crash may lose one.

        Raises: StoreUnavailable.
        """
        with translated():
            await self._client.redis.hincrby(self._keys.unknown, source, count)

    async def unknown(self) -> dict[str, int]:
        """Return, by source, how many events of an unknown type there were. Raises: StoreUnavailable."""
        with translated():
            found: dict[Any, Any] = await self._client.redis.hgetall(self._keys.unknown)
        return {source.decode(): int(count) for source, count in found.items()}

    async def may_sweep(self, worker: str, sources: Iterable[str], targets: Iterable[str]) -> bool:
        """Tell whether this worker sweeps now. Among workers with the same names, one does, for a second.

        There is one for each configuration: during a rolling deploy, each must sweep the names that only it
        knows.

        Raises: StoreUnavailable.
        """
        key = self._keys.sweeper(sources, targets)
        with translated():
            return bool(await self._client.redis.set(key, worker, nx=True, px=SWEEP_LEASE_MS))

    async def waiting(self, sources: Sequence[str], targets: Sequence[str]) -> Waiting:
        """Find where work waits, among the names this process knows. Raises: StoreUnavailable."""
        found = await self._client.run(
            "waiting", [], [GROUP, LEFT_BEHIND_MS, len(sources), *sources, *targets]
        )
        return Waiting(*([name.decode() for name in names] for names in found))

    async def memory_used(self) -> float:
        """Return the share of `maxmemory` in use; 0 if none is set. Raises: StoreUnavailable."""
        with translated():
            info = await self._client.redis.info("memory")
        limit = int(info.get("maxmemory", 0))
        return int(info["used_memory"]) / limit if limit else 0.0

    async def holding(self, sources: Sequence[str]) -> Holding:
        """Return what takes memory and retention may not remove. Raises: StoreUnavailable."""
        return await holding(self._client, sources)

    async def now_ms(self) -> int:
        """Return the time by Redis's clock, in milliseconds since 1970. Raises: StoreUnavailable."""
        return await now_ms(self._client)

    async def retain(
        self,
        targets: Sequence[str],
        *,
        events_ms: int,
        dead_letters_ms: int,
        under_pressure: bool,
        archives: bool = False,
    ) -> Removed:
        """Remove at most REMOVE_AT_ONCE records that are older than retention keeps, the oldest first.

        `events_ms` and `dead_letters_ms` are their ages; under pressure, finished events and recorded
        duplicates are removed at any age. `archives`: they are left to the archive.

        Raises: StoreUnavailable.
        """
        now = await now_ms(self._client)
        received_before: str | int = "+inf" if under_pressure else now - events_ms
        if archives:
            received_before = "-inf"
        counts = await self._client.run(
            "retain", [], [REMOVE_AT_ONCE, received_before, now - dead_letters_ms, *targets]
        )
        return Removed(*counts)
