"""A store of the tests' own, and events to put into it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from shared.event.canonical import DedupeKey
from shared.settings import PREFIX
from shared.store.address import parse_address
from shared.store.admission import Admission, AdmissionOptions, Entry, Outcome
from shared.store.client import RedisClient
from shared.store.inbox import Received
from shared.store.targets import Targets
from shared.store.upkeep import Upkeep
from tests.integration.due import Due
from tests.integration.turns import Turns

T = TypeVar("T")

SOURCE, WORKER = "trustshare", "worker-1"
WINDOW_MS = RETENTION_MS = 600_000
ATTRIBUTES, DATA = b'{"id":"x"}', b'{"provider":"x"}'


class Store:
    """Every part of the store, over one connection."""

    def __init__(self, client: RedisClient) -> None:
        self.client = client
        self.redis = client.redis
        self.inbox = Turns(client)
        self.due = Due(client)
        self.upkeep = Upkeep(client)
        self.targets = Targets(client)

    async def put(self, *bodies: bytes, source: str = SOURCE) -> list[str]:
        """Commit bodies as ingress does, and return their ids."""
        replies = await self.inbox.put([Received(source, body, {}) for body in bodies])
        assert all(isinstance(reply, str) for reply in replies)
        return [str(reply) for reply in replies]

    async def admit(
        self,
        entries: Sequence[Entry],
        *targets: str,
        dedupe: Callable[[Entry], DedupeKey | None] = lambda entry: None,
        transaction: str = "",
        in_order: Sequence[str] = (),
        fence: str = "",
    ) -> list[Outcome]:
        """Admit entries for targets, without an adapter."""
        batch = [
            Admission(
                entry, dedupe(entry), targets, ATTRIBUTES, DATA, transaction=transaction, in_order=in_order
            )
            for entry in entries
        ]
        return await self.inbox.admit(
            entries[0].source if entries else SOURCE,
            batch,
            AdmissionOptions(WINDOW_MS, RETENTION_MS, fence),
        )

    async def event(self, body: bytes, *targets: str) -> str:
        """Take an event all the way to its due sets, and return its id."""
        [id] = await self.put(body)
        await self.admit(await self.inbox.take(SOURCE, WORKER), *targets)
        return id


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[Store]:
    client = RedisClient(parse_address(url, PREFIX), timeout_s=5)
    try:
        yield Store(client)
    finally:
        await client.close()


async def used_memory(redis: Any) -> int:
    """Return how many bytes of memory a Redis uses."""
    return int((await redis.info("memory"))["used_memory"])


def with_store(url: str, test: Callable[[Store], Awaitable[T]]) -> T:
    """Run a test's coroutine with a store."""

    async def main() -> T:
        async with open_store(url) as store:
            return await test(store)

    return asyncio.run(main())
