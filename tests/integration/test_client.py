"""The client of Redis: scripts in order on one connection, which fail together; and a pool for the rest."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingress.acceptance import Acceptance
from ingress.commit import AT_ONCE, WORTHWHILE, Committer
from shared.config.check import parse_config
from shared.errors import StoreUnavailable
from shared.settings import PREFIX
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.inbox import Inbox, Received
from shared.store.keys import Keys
from tests.conftest import RedisServer

KEYS = Keys()

SOURCE = "trustshare"
MOST_CONNECTIONS = 50
"""What redis-py's pool that waits opens, if nothing else is said."""


def with_client(
    redis_url: str, test: Callable[[RedisClient], Awaitable[None]], *, timeout_s: float = 1.0
) -> None:
    async def main() -> None:
        client = RedisClient(parse_address(redis_url, PREFIX), timeout_s=timeout_s)
        try:
            await test(client)
        finally:
            await client.close()

    asyncio.run(main())


def some(count: int = 1) -> list[Received]:
    return [Received(SOURCE, b"%d" % number, {}) for number in range(count)]


async def kill_others(client: RedisClient) -> None:
    await client.redis.client_kill_filter(_type="normal", skipme=True)


def test_what_is_put_at_once_is_taken_in_its_order_over_one_connection(redis_url: str) -> None:
    async def test(client: RedisClient) -> None:
        inbox = Inbox(client)
        await client.redis.script_load(client.script("put").script)
        before = await client.redis.info("stats")
        results = await asyncio.gather(*(inbox.put(some(20)) for _ in range(10)))
        ids = [id for result in results for id in result if isinstance(id, str)]
        assert len(ids) == 200
        entries: Any = await client.redis.xrange(KEYS.inbox(SOURCE))
        assert [fields[b"body"] for _, fields in entries] == [b"%d" % number for number in range(20)] * 10
        assert ids == sorted(ids, key=lambda id: (id[4:15], int(id[23:], 16)))
        after = await client.redis.info("stats")
        assert after["total_connections_received"] - before["total_connections_received"] == 1

    with_client(redis_url, test)


def test_scripts_that_redis_has_forgotten_are_loaded_again(redis_url: str) -> None:
    async def test(client: RedisClient) -> None:
        inbox = Inbox(client)
        await inbox.put(some())
        await client.redis.script_flush()
        results = await asyncio.gather(*(inbox.put(some()) for _ in range(5)))
        assert all(isinstance(result, str) for [result] in results)

    with_client(redis_url, test)


def test_a_connection_that_was_closed_while_idle_costs_nobody_an_answer(redis_url: str) -> None:
    async def test(client: RedisClient) -> None:
        inbox = Inbox(client)
        await inbox.put(some())
        await kill_others(client)
        await asyncio.sleep(0.05)
        [result] = await inbox.put(some())
        assert isinstance(result, str)

    with_client(redis_url, test)


@pytest.mark.parametrize("how", ["gives up", "cut"])
def test_where_one_fails_those_under_way_fail_with_it_and_the_next_is_taken(how: str, redis_url: str) -> None:
    async def test(client: RedisClient) -> None:
        inbox = Inbox(client)
        await inbox.put(some())
        await client.redis.client_pause(500, all=False)

        async def first() -> None:
            async with asyncio.timeout(0.1 if how == "gives up" else 5):
                await inbox.put(some())

        waiting = [asyncio.create_task(first())]
        waiting += [asyncio.create_task(inbox.put(some())) for _ in range(4)]  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        if how == "cut":
            await kill_others(client)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results[1:]] == [StoreUnavailable] * 4
        assert isinstance(results[0], TimeoutError if how == "gives up" else StoreUnavailable)
        [result] = await inbox.put(some())
        assert isinstance(result, str)

    with_client(redis_url, test)


def test_a_failed_commit_refuses_all_under_way_and_behind_until_redis_was_looked_at(redis_url: str) -> None:
    async def test(client: RedisClient) -> None:
        sources = [{"name": SOURCE, "provider": "trustshare", "secrets": ["s"]}]
        config = parse_config({"redis": {"url": redis_url}, "sources": sources})
        acceptance = Acceptance(config)
        commits = Committer(config, acceptance)
        await acceptance.check()
        await client.redis.client_pause(300, all=False)
        told = []
        for _ in range(AT_ONCE + 2):
            told += [asyncio.create_task(commits.commit(received)) for received in some(WORTHWHILE)]
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in told)
        await kill_others(client)
        results = await asyncio.gather(*told, return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailable] * WORTHWHILE * (AT_ONCE + 2)
        with pytest.raises(StoreUnavailable):  # at once
            await commits.commit(some()[0])
        await asyncio.sleep(0.3)
        await acceptance.check()
        assert await commits.commit(some()[0])
        await commits.close()
        await acceptance.close()

    with_client(redis_url, test)


def test_a_burst_of_commands_waits_for_connections(redis_url: str) -> None:
    async def test(client: RedisClient) -> None:
        assert await asyncio.gather(*(client.redis.ping() for _ in range(300))) == [True] * 300
        clients = await client.redis.client_list()
        assert len(clients) <= MOST_CONNECTIONS + 1

    with_client(redis_url, test, timeout_s=30)  # all of them wait for one another


def test_a_command_that_was_given_up_leaves_its_reply_to_nobody(redis_url: str) -> None:
    async def test(client: RedisClient) -> None:
        await client.redis.mset({"hr:a": "a", "hr:b": "b"})
        await client.redis.client_pause(300, all=True)
        waiting = asyncio.ensure_future(client.redis.get("hr:a"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        assert isinstance(*await asyncio.gather(waiting, return_exceptions=True), asyncio.CancelledError)
        assert await asyncio.gather(*(client.redis.get("hr:b") for _ in range(3))) == [b"b"] * 3

    with_client(redis_url, test)


def test_a_master_that_becomes_a_replica_is_left(folder: Path) -> None:
    """Whatever stands behind the address then, a new connection finds it."""
    server = RedisServer(folder)
    server.start()

    async def test(client: RedisClient) -> None:
        inbox = Inbox(client)
        await inbox.put(some())
        await client.redis.replicaof("127.0.0.1", "1")
        before = await client.redis.info("stats")
        [refused] = await inbox.put(some())
        assert isinstance(refused, StoreUnavailable)
        assert str(refused).startswith("ReadOnlyError")
        await client.redis.replicaof("NO", "ONE")
        [result] = await inbox.put(some())
        assert isinstance(result, str)
        after = await client.redis.info("stats")
        assert after["total_connections_received"] - before["total_connections_received"] == 1

    try:
        with_client(server.url, test)
    finally:
        server.kill()


@pytest.mark.parametrize("when", ["with the reply before", "later"])
def test_what_nobody_asked_for_is_never_a_reply(when: str, folder: Path) -> None:
    connections: list[asyncio.Event] = []
    asked_for, stray = b"$3\r\nabc\r\n", b"$5\r\nstray\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(ended := asyncio.Event())
        with closing(writer):
            await reader.read(10_000)
            writer.write(asked_for + stray if when == "with the reply before" else asked_for)
            if when == "later":
                await given.wait()
                writer.write(stray)
            while await reader.read(10_000):
                writer.write(asked_for)
        ended.set()

    async def main() -> None:
        async with await asyncio.start_unix_server(serve, folder / "redis.sock"):
            client = RedisClient(parse_address(f"unix://{folder}/redis.sock", PREFIX), timeout_s=5.0)
            for number in range(3):
                given.clear()
                assert await client.run("end_turn", [], []) == b"abc"
                given.set()
                assert len(connections) == number + 1, "it was opened anew"
                async with asyncio.timeout(60):
                    await connections[number].wait()
            await client.close()

    given = asyncio.Event()
    asyncio.run(main())
