"""What the worker that moves finished events to the archive says of it, for every process to read."""

import msgspec

from shared.store.client import RedisClient, translated

KEPT_MS = 60_000
LATE_MS = 600_000
NAMED = 20


class ArchiveState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How moving goes, as a worker found it at `at_ms` by Redis's clock.

    `hot_ms` is the hot span.
    `error` says why nothing is moved, since `since_ms`; it is empty if all is well. `behind` is how many
    finished events and copies are older than the hot span and not archived, and `oldest_ms` when the oldest
    came in. `refused`: some of the events that the archive cannot take, and why; `refused_in_all` is how many
    there are.
    """

    at_ms: int
    hot_ms: int = 0
    error: str = ""
    since_ms: int = 0
    behind: int = 0
    oldest_ms: int | None = None
    refused: dict[str, str] = {}
    refused_in_all: int = 0

    @property
    def is_late(self) -> bool:
        """Whether something waits that should have been archived ten minutes ago."""
        return self.oldest_ms is not None and self.oldest_ms < self.at_ms - self.hot_ms - LATE_MS


async def publish(client: RedisClient, state: ArchiveState) -> None:
    """Write the state. Raises: StoreUnavailable."""
    with translated():
        await client.redis.set(client.keys.archive, msgspec.json.encode(state), px=KEPT_MS)


async def published(client: RedisClient) -> ArchiveState | None:
    """Return the state; None if no worker has moved anything for a minute. Raises: StoreUnavailable."""
    with translated():
        found = await client.redis.get(client.keys.archive)
    return msgspec.json.decode(found, type=ArchiveState) if found else None
