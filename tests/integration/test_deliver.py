"""A worker's deliverer on a real Redis and real sockets: what it hands back, and what it records."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.config.check import parse_config
from shared.http import Egress
from shared.store.bells import Bells
from shared.store.deliveries import Deliveries
from workers.deliver import Deliverer

from .filled import Filled, with_redis
from .raw_targets import OK, Target, target

GRACE_S = 0.05
PATIENCE_S = 60


@asynccontextmanager
async def deliverer(store: Filled, port: int) -> Any:
    """A deliverer of one target, `one`, on this port."""
    table = {
        "name": "one",
        "url": f"http://127.0.0.1:{port}/hooks",
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "allow_private": True,
        "timeout": "300s",
    }
    egress = Egress()
    try:
        yield Deliverer(parse_config({"targets": [table]}), store.due, Bells(store.client), egress)
    finally:
        await egress.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110  # what another server holds
            await asyncio.sleep(0.01)


async def is_due_now_and_uncharged(store: Filled, id: str) -> None:
    """See that a delivery is anybody's at once: it waits for no lease, and no attempt was counted."""
    redis: Any = store.client.redis
    assert await redis.zcard("hr:leased:one") == 0
    seconds, micros = await redis.time()
    assert await redis.zscore("hr:due:one", id) <= seconds * 1000 + micros // 1000
    fields = ["failed:one", "lapsed:one", "age:one", "end:one"]
    assert await redis.hmget(f"hr:event:{id}", fields) == [None] * 4
    assert await redis.exists(f"hr:attempts:{id}") == 0
    # What a worker that starts now gets.
    assert [claimed.event_id for claimed, _ in (await store.claim("one")).entries] == [id]


@pytest.mark.case(n=57)
@pytest.mark.case(n=9)
def test_a_drain_hands_back_what_is_in_flight_uncharged(redis_url: str) -> None:
    async def hang(here: Target, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await here.read(reader)
        await reader.read()

    async def check(store: Filled) -> None:
        [id] = await store.events(1, "one")
        async with target(hang) as here, deliverer(store, here.port) as worker:
            worker.kick("one")

            async def arrived() -> bool:
                return len(here.requests) == 1

            await until(arrived)
            assert await store.client.redis.zcard("hr:leased:one") == 1
            await worker.drain(GRACE_S)
            await is_due_now_and_uncharged(store, id)

    with_redis(redis_url, check)


@pytest.mark.case(n=57)
def test_what_is_claimed_while_a_worker_stops_is_handed_back_unsent(redis_url: str) -> None:
    async def answer(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await here.read(reader)
        writer.write(OK)

    async def check(store: Filled) -> None:
        [id] = await store.events(1, "one")
        async with target(answer) as here, deliverer(store, here.port) as worker:
            worker.kick("one")
            await asyncio.sleep(0)  # the claim is on its way to Redis
            await worker.drain(PATIENCE_S)
            assert here.requests == []
            await is_due_now_and_uncharged(store, id)

    with_redis(redis_url, check)


@pytest.mark.case(n=56)
def test_an_attempt_that_sent_its_request_twice_says_so(redis_url: str) -> None:
    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await here.read(reader)
        writer.write(OK)
        if here.connections == 1:
            await here.read(reader)  # the second request, and the connection closes without an answer

    async def check(store: Filled) -> None:
        deliveries = Deliveries(store.client)
        async with target(handler) as here, deliverer(store, here.port) as worker:
            found = []
            for count in (1, 2):
                [id] = await store.events(1, "one", source=f"source-{count}")
                worker.kick("one")

                async def done(id: str = id) -> bool:
                    return bool(await store.client.redis.hget(f"hr:event:{id}", "end:one") == b"done")

                await until(done)
                [view] = await deliveries.of_event(id) or []
                found += [attempt.resent for attempt in view.attempts]
            assert found == [False, True]
            assert len(here.requests) == 3
            await worker.drain(PATIENCE_S)

    with_redis(redis_url, check)
