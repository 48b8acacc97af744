"""What a target's state, rate and breaker let through, on a real Redis."""

import asyncio
from typing import Any

import pytest

from shared.delivery.verdicts import REMOVED, GivenUp, Reason
from shared.store.clock import now_ms
from shared.store.due import Attempt, BreakerPolicy, Claimed, End, Limits, Settlement
from shared.store.targets import State, TargetView
from tests.integration.store import Store, with_store

LIMITS = Limits(lease_ms=60_000, concurrency=100)
BREAKER_POLICY = BreakerPolicy(failures=3, first_ms=200, longest_ms=500, disable_after_ms=3_600_000)


async def claim(store: Store, most: int = 10, limits: Limits = LIMITS) -> list[Claimed]:
    return [claimed for claimed, _ in (await store.due.claim("one", most=most, limits=limits)).entries]


async def settle(
    store: Store, claimed: Claimed, end: End, breaker_policy: BreakerPolicy = BREAKER_POLICY
) -> str:
    """Settle a claim, and return what became of its target."""
    status = 200 if end is End.DONE else 410 if end is End.GONE else 500
    attempt = Attempt(n=claimed.failed + 1, at_ms=1, duration_ms=1, status=status)
    settled, news = await store.due.settle([Settlement(claimed, end, 0, attempt)], {"one": breaker_policy})
    assert settled == [True]
    return news.get("one", "")


async def view(store: Store) -> TargetView:
    [found] = await store.targets.views(["one"])
    return found


def test_a_rate_lets_through_its_burst_and_then_evenly(redis_url: str) -> None:
    limits = Limits(lease_ms=60_000, concurrency=100, interval_us=100_000, burst=3)

    async def check(store: Store) -> None:
        for i in range(8):
            await store.event(b"%d" % i, "one")
        claims = await store.due.claim("one", most=10, limits=limits)
        assert len(claims.entries) == 3, "the burst"
        assert claims.more == 0, "no use in looking again at once"
        assert claims.next_due_s is not None
        assert 0 < claims.next_due_s <= 0.102
        assert (await claim(store, 10, limits)) == []
        await asyncio.sleep(0.11)
        assert len(await claim(store, 10, limits)) == 1, "one for each interval"
        await asyncio.sleep(0.21)
        assert len(await claim(store, 10, limits)) == 2
        await asyncio.sleep(0.5)
        assert len(await claim(store, 10, limits)) == 2, "what is left; after a pause no more than the burst"
        assert 0 < await store.redis.pttl("hr:rate:one") < 2000

    with_store(redis_url, check)


def test_a_run_of_failures_opens_the_breaker_and_one_probe_closes_it(redis_url: str) -> None:
    async def check(store: Store) -> None:
        for i in range(6):
            await store.event(b"%d" % i, "one")
        first, second, third, *in_flight = await claim(store, 5)
        assert await settle(store, first, End.RETRY) == ""
        assert await settle(store, second, End.RETRY) == ""
        assert await settle(store, third, End.RETRY) == "opened"
        assert await settle(store, in_flight[0], End.RETRY) == "", "what was in flight says nothing new"
        opened = await view(store)
        assert (opened.breaker, opened.failures_in_a_row, opened.last_error) == ("open", 4, "answered 500")
        claims = await store.due.claim("one", most=10, limits=LIMITS)
        assert (claims.entries, claims.more) == ([], 0), "while open, events wait, uncharged"
        assert claims.next_due_s is not None
        assert 0 < claims.next_due_s <= 0.2
        assert await settle(store, in_flight[1], End.BACK) == "", "a hand-back says nothing of the target"

        await asyncio.sleep(0.25)
        assert (await view(store)).breaker == "half-open"
        [probe] = await claim(store)
        assert await claim(store) == [], "one probe at a time, fleet-wide"
        assert await settle(store, probe, End.RETRY) == ""
        reopened = await view(store)
        assert reopened.probe_in_s is not None
        assert 0.2 < reopened.probe_in_s <= 0.4, "twice as long"
        await asyncio.sleep(0.45)
        [probe] = await claim(store)
        assert await settle(store, probe, End.DONE) == "closed"
        assert (await view(store)).breaker == "closed"
        assert len(await claim(store)) == 5
        assert (await view(store)).success_rate == 1 / 6

    with_store(redis_url, check)


def test_a_success_in_between_breaks_the_run(redis_url: str) -> None:
    async def check(store: Store) -> None:
        for i in range(5):
            await store.event(b"%d" % i, "one")
        ends = (End.DEAD, End.DEAD, End.DONE, End.DEAD, End.DEAD)
        assert [
            await settle(store, claimed, end) for claimed, end in zip(await claim(store), ends, strict=True)
        ] == [""] * 5
        assert (await view(store)).failures_in_a_row == 2

    with_store(redis_url, check)


@pytest.mark.parametrize("after", [End.DONE, End.BACK, End.RETRY])
def test_410_disables_the_target_whatever_else_is_settled_with_it(after: End, redis_url: str) -> None:
    async def check(store: Store) -> None:
        for body in (b"a", b"b"):
            await store.event(body, "one")
        attempt = Attempt(n=1, at_ms=1, duration_ms=1, status=410)
        first, second = await claim(store)
        batch = [Settlement(first, End.GONE, 0, attempt), Settlement(second, after, 0, attempt)]
        settled, news = await store.due.settle(batch, {"one": BREAKER_POLICY})
        assert (settled, news) == ([True, True], {"one": "disabled"})
        assert (await view(store)).state == "disabled"

    with_store(redis_url, check)


def test_410_disables_the_target_and_a_long_failure_too(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.event(b"x", "one")
        [claimed] = await claim(store)
        assert await settle(store, claimed, End.GONE) == "disabled"
        gone = await view(store)
        assert (gone.state, gone.reason, gone.dead_letters) == ("disabled", "answered 410 Gone", 1)
        await store.targets.set_state("one", State.ACTIVE, "", user="me")
        assert (await view(store)).state == "active"

        impatient = BreakerPolicy(
            failures=1000, first_ms=1, longest_ms=1, disable_after_ms=30, disable_reason="failed"
        )
        for body in (b"a", b"b"):
            await store.event(body, "one")
        first, second = await claim(store)
        assert await settle(store, first, End.DEAD, impatient) == ""
        await asyncio.sleep(0.05)
        assert await settle(store, second, End.DEAD, impatient) == "disabled"
        assert (await view(store)).reason == "failed"

    with_store(redis_url, check)


@pytest.mark.parametrize("state", [State.PAUSED, State.DISABLED])
def test_a_target_that_is_not_active_gets_nothing_and_collects(state: State, redis_url: str) -> None:
    async def check(store: Store) -> None:
        for _ in range(2):
            await store.targets.set_state("one", state, "by hand", user="me")
        await store.event(b"x", "one")
        assert await claim(store) == []
        waiting = await store.upkeep.waiting([], ["one"])
        assert (waiting.due, waiting.blocked) == ([], [f"{state.value} one"])
        stands = await view(store)
        assert (stands.state, stands.reason, stands.backlog) == (state.value, "by hand", 1)
        await store.targets.set_state("one", State.ACTIVE, "", user="me")
        assert len(await claim(store)) == 1
        assert await store.redis.xlen("hr:audit") == 3

    with_store(redis_url, check)


def test_giving_up_makes_dead_letters_that_a_replay_brings_back(redis_url: str) -> None:
    async def check(store: Store) -> None:
        old, new = await store.event(b"old", "one"), await store.event(b"new", "one")
        await store.redis.zadd("hr:due:one", {old: 1000})
        why = Reason(GivenUp.AGE, "paused for more than 7d")
        assert await store.targets.give_up("one", due_before_ms=2000, reason=why) == 1
        assert await store.targets.give_up("one", due_before_ms=2000, reason=why) == 0, "said again"
        assert await store.redis.zscore("hr:dead:one", old) is not None
        assert await store.redis.zscore("hr:due:one", new) is not None
        assert await store.redis.hget(f"hr:event:{old}", "why:one") == b"age paused for more than 7d"
        assert await store.redis.exists(f"hr:attempts:{old}") == 0, "nothing was sent"
        for state in (State.DISABLED, State.PAUSED):
            waits = store.targets.give_up("one", due_before_ms=None, reason=why, state=state)
            assert await waits == 0, "an operator has enabled it meanwhile"
        assert await store.targets.give_up("one", due_before_ms=None, reason=REMOVED) == 1
        args: list[Any] = ["one", old, new]
        replies = await store.client.run("replay", ["hr:due:one", "hr:leased:one", "hr:dead:one"], args)
        assert replies == [b"replayed"] * 2
        assert [claimed.age_ms for claimed in await claim(store)] == [0, 0]
        assert await store.redis.hget(f"hr:event:{old}", "why:one") is None

    with_store(redis_url, check)


@pytest.mark.case(n=27)
def test_a_target_is_forgotten_once_no_process_has_said_it_for_five_minutes(redis_url: str) -> None:
    async def check(store: Store) -> None:
        assert await store.targets.know(["one", "two"]) == []
        six_minutes_ago = await now_ms(store.client) - 360_000
        await store.redis.zadd("hr:targets", {"one": six_minutes_ago})
        assert await store.targets.know(["two"]) == ["one"]
        assert await store.targets.know(["one"]) == [], "a process that has it still keeps it"
        await store.redis.zadd("hr:targets", {"one": six_minutes_ago})
        await store.event(b"x", "one")
        assert await store.targets.forget("one") is False, "something of it is left"
        await store.redis.zunionstore("hr:leased:one", ["hr:due:one"])
        await store.redis.delete("hr:due:one")
        assert await store.targets.forget("one") is False, "a worker has it"
        await store.redis.rename("hr:leased:one", "hr:due:one")
        await store.targets.give_up("one", due_before_ms=None, reason=REMOVED)
        assert await store.targets.forget("one") is False, "its dead letters are kept"
        await store.redis.delete("hr:dead:one")
        assert await store.targets.forget("one") is True
        assert await store.targets.on_record() == ["two"]

    with_store(redis_url, check)
