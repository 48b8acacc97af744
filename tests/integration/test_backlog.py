"""How much waits in an inbox, by Redis's own word, and when ingress takes from a source and when not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from ingress.acceptance import INBOXES_FULL, Acceptance
from ingress.commit import Committer
from shared.config.check import parse_config
from shared.errors import StoreUnavailable
from shared.store.inbox import Received
from shared.store.keys import Keys
from tests.integration.store import Store, with_store

KEYS = Keys()

NOISY, QUIET = "noisy", "quiet"


class Intake(NamedTuple):
    """What of ingress commits, and what says whether it may."""

    commits: Committer
    acceptance: Acceptance


@asynccontextmanager
async def intake(redis_url: str, **limits: int) -> AsyncIterator[Intake]:
    sources = [{"name": name, "provider": "trustshare", "secrets": ["s"]} for name in (NOISY, QUIET)]
    config = parse_config({"redis": {"url": redis_url}, "sources": sources, "ingress": limits})
    acceptance = Acceptance(config)
    commits = Committer(config, acceptance)
    await acceptance.check()
    try:
        yield Intake(commits, acceptance)
    finally:
        await commits.close()
        await acceptance.close()


async def send(to: Intake, source: str, size: int = 10) -> bool:
    """Commit a request as ingress does; False if it is refused."""
    full = source in to.acceptance.full
    try:
        await to.commits.commit(Received(source, b"x" * size, {}))
    except StoreUnavailable as error:
        refused = str(error)
    else:
        refused = ""
    assert full == ("the inbox is full" in refused)
    return not refused


async def remove(store: Store, source: str, count: int) -> None:
    """Take the oldest away, as admission does."""
    entries: Any = await store.redis.xrange(KEYS.inbox(source), count=count)
    await store.redis.xdel(KEYS.inbox(source), *(id for id, _ in entries))


def test_a_full_inbox_is_left_alone_until_a_tenth_is_gone(redis_url: str) -> None:
    async def test(store: Store) -> None:
        async with intake(redis_url, max_inbox_events=20) as ingress:
            for _ in range(20):
                assert await send(ingress, NOISY)
            await ingress.acceptance.check()
            assert await send(ingress, NOISY), "at its limit it is not past it"
            await ingress.acceptance.check()
            assert not await send(ingress, NOISY)
            assert await send(ingress, QUIET)
            assert ingress.acceptance.refusal is None
            assert set(ingress.acceptance.full) == {NOISY}
            await remove(store, NOISY, 2)
            await ingress.acceptance.check()
            assert not await send(ingress, NOISY), "19 are below the limit, and it does not flap"
            await remove(store, NOISY, 1)
            await ingress.acceptance.check()
            assert await send(ingress, NOISY)
            assert not ingress.acceptance.full

    with_store(redis_url, test)


def test_bytes_count_as_events_do(redis_url: str) -> None:
    async def test(store: Store) -> None:
        async with intake(redis_url, max_inbox_bytes=2_000_000, max_inbox_events=10_000) as ingress:
            sent = 0
            while await send(ingress, NOISY, 100_000):
                sent += 1
                assert sent < 100
                await ingress.acceptance.check()
            # A stream takes a little more than the bodies in it.
            assert 15 <= sent <= 21
            await remove(store, NOISY, sent)
            await ingress.acceptance.check()
            assert await send(ingress, NOISY)

    with_store(redis_url, test)


@pytest.mark.parametrize("size", [20, 2_000, 100_000])
def test_redis_s_estimate_is_near_what_the_bodies_take(size: int, redis_url: str) -> None:
    async def test(store: Store) -> None:
        count = 4_000_000 // max(size, 400)
        for _ in range(count // 100 + 1):
            await store.put(*[b"x" * size] * min(100, count))
        [noted, none] = await store.inbox.backlogs(["trustshare", "nothing-there"])
        assert (none.events, none.bytes) == (0, 0)
        assert noted.events == await store.redis.xlen(KEYS.inbox("trustshare"))
        assert noted.events * size <= noted.bytes <= noted.events * (size * 1.5 + 100) + 10_000

    with_store(redis_url, test)


def test_a_source_that_is_full_everywhere_is_looked_at_without_a_request(redis_url: str) -> None:
    """Nobody may send for a while: readiness must tell of the inbox as it is."""

    async def test(store: Store) -> None:
        async with intake(redis_url, max_inbox_events=1) as ingress:
            for source in (NOISY, QUIET):
                await send(ingress, source)
                await send(ingress, source)
            await ingress.acceptance.check()
            refusals = [ingress.acceptance.refusal]
            await store.redis.delete(KEYS.inbox(NOISY))
            await ingress.acceptance.check()
            assert [*refusals, ingress.acceptance.refusal] == [INBOXES_FULL, None]
            assert set(ingress.acceptance.full) == {QUIET}

    with_store(redis_url, test)


def test_looking_costs_no_command_a_request(redis_url: str) -> None:
    async def test(store: Store) -> None:
        async with intake(redis_url) as ingress:
            before = await store.redis.info("commandstats")
            for _ in range(50):
                await asyncio.gather(*(send(ingress, NOISY) for _ in range(4)))
            await ingress.acceptance.check()
            after = await store.redis.info("commandstats")

            def calls(command: str) -> int:
                name = next((name for name in after if name.partition("|")[0] == f"cmdstat_{command}"), None)
                if name is None:
                    return 0
                return int(after[name]["calls"]) - int(before.get(name, {"calls": 0})["calls"])

            assert (calls("xadd"), calls("xlen"), calls("memory")) == (200, 1, 1)

    with_store(redis_url, test)
