"""Shares of memory: how much of Redis each target and each source takes, and which are past their share.

A worker measures about once a second and writes its verdict; every process reads it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from shared.store.client import RedisClient, translated
from shared.store.clock import in_ms
from shared.store.inbox import Inbox

SAMPLE = 250
VALID_MS = 30_000


class Memory(msgspec.Struct, frozen=True):
    """Redis's memory, in bytes. `most` is `maxmemory`; 0 if none is set."""

    used: int
    most: int

    @property
    def used_share(self) -> float:
        """The fraction of `maxmemory` in use; 0 if none is set."""
        return self.used / self.most if self.most else 0.0


class Taken(msgspec.Struct, frozen=True):
    """About how many bytes open events take, by target, and requests that are held back or not admitted, by
    source.

    An event that waits for several targets counts for each of them.
    """

    targets: dict[str, int]
    sources: dict[str, int]


class Verdict(msgspec.Struct, frozen=True):
    """Which targets and sources are past their share, as a worker measured at `at_ms` by Redis's clock.

    `targets` and `sources`: name → a phrase that says so. `stranded`: the name of a source that is not
    configured → how many requests wait in its inbox. `filled`: target → how much of its share it takes.
    """

    at_ms: int
    targets: dict[str, str] = {}
    sources: dict[str, str] = {}
    stranded: dict[str, int] = {}
    filled: dict[str, float] = {}


_decode = msgspec.json.Decoder(Verdict).decode


class Shares:
    """The shares of one Redis's memory."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys
        self._inbox = Inbox(client)

    async def memory(self) -> Memory:
        """Return how much memory Redis uses, and how much it may. Raises: StoreUnavailable."""
        with translated():
            info = await self._client.redis.info("memory")
        return Memory(int(info["used_memory"]), int(info.get("maxmemory", 0)))

    async def taken(self, sources: Sequence[str]) -> Taken:
        """Estimate from a sample what each target takes, and each of `sources`. Raises: StoreUnavailable."""
        targets, quarantine, duplicates = await self._client.run("shares", [], [SAMPLE])
        by_source = Counter(dict.fromkeys(sources, 0))
        by_source.update(_named(quarantine))
        by_source.update(_named(duplicates))
        if sources:
            for source, backlog in zip(sources, await self._inbox.backlogs(sources), strict=True):
                by_source[source] += backlog.bytes if backlog.events else 0
        return Taken(_named(targets), dict(by_source))

    async def finished(self) -> int:
        """Return how many finished events retention may still remove. Raises: StoreUnavailable."""
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for key in (self._keys.finished, self._keys.packed):
                pipe.zcard(key)
            return sum(await pipe.execute())

    async def publish(self, names: str, verdict: Verdict) -> None:
        """Publish this worker's verdict to all processes. Raises: StoreUnavailable."""
        with translated():
            pipe = self._client.redis.pipeline(transaction=True)
            pipe.hset(self._keys.shares, names, msgspec.json.encode(verdict))
            pipe.pexpire(self._keys.shares, VALID_MS)
            await pipe.execute()

    async def verdict(self) -> Verdict:
        """Return the verdicts of all workers of the last half minute, joined. Raises: StoreUnavailable."""
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            pipe.time()
            pipe.hvals(self._keys.shares)
            time, found = await pipe.execute()
        now = in_ms(time)
        each = [verdict for verdict in map(_read, found) if now - verdict.at_ms <= VALID_MS]
        return Verdict(
            at_ms=now,
            targets=_joined(verdict.targets for verdict in each),
            sources=_joined(verdict.sources for verdict in each),
            stranded=_joined(verdict.stranded for verdict in each),
            filled=_joined(verdict.filled for verdict in each),
        )


def _read(value: bytes) -> Verdict:
    """Read a verdict; one that another version wrote in another form counts as empty."""
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return Verdict(0)


def _named(reply: Sequence[Any]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _joined(maps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for each in maps:
        joined |= each
    return joined
