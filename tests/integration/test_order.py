"""Ordered targets on a real Redis: one of a transaction at a time, in inbox order, whatever happens to it."""

import asyncio

import pytest

from shared.delivery.verdicts import REMOVED
from shared.errors import StoreUnavailable
from shared.store.deliveries import Deliveries
from shared.store.due import Attempt, BreakerPolicy, Claimed, End, Limits, Settlement
from shared.store.inbox import LEFT_BEHIND_MS
from shared.store.keys import GROUP
from shared.store.lanes import Lanes
from tests.integration.store import SOURCE, WORKER, Store, with_store

LIMITS = Limits(lease_ms=60_000, concurrency=100)
ATTEMPT = Attempt(n=1, at_ms=1, duration_ms=1, status=500)


def breaker_policy(*, hold: bool) -> dict[str, BreakerPolicy]:
    rules = BreakerPolicy(failures=1000, first_ms=1, longest_ms=1, disable_after_ms=10**12, hold=hold)
    return {"one": rules}


async def claim(store: Store) -> list[Claimed]:
    return [claimed for claimed, _ in (await store.due.claim("one", most=100, limits=LIMITS)).entries]


async def settle(store: Store, claimed: Claimed, end: End, *, hold: bool = False) -> bool:
    [changed], _ = await store.due.settle([Settlement(claimed, end, 0, ATTEMPT)], breaker_policy(hold=hold))
    return changed


async def receive(store: Store, *transactions: str) -> list[str]:
    """Admit one event for each of `transactions`, in this order, for the ordered target `one`."""
    ids = await store.put(*(b"%d" % number for number in range(len(transactions))))
    entries = await store.inbox.take(SOURCE, WORKER)
    for entry, transaction in zip(entries, transactions, strict=True):
        await store.admit([entry], "one", in_order=["one"], transaction=transaction)
    return ids


def test_only_the_first_of_each_transaction_is_due(redis_url: str) -> None:
    async def check(store: Store) -> None:
        a1, b1, a2, a3, none1, none2 = await receive(store, "a", "b", "a", "a", "", "")
        first = await claim(store)
        assert [claimed.event_id for claimed in first] == [a1, b1, none1, none2], "without one: unordered"
        assert await claim(store) == []
        assert await settle(store, first[0], End.DONE)
        assert not await settle(store, first[0], End.DONE), "said again, it advances nobody"
        [second] = await claim(store)
        assert second.event_id == a2
        assert await settle(store, second, End.RETRY)
        [again] = await claim(store)
        assert again.event_id == a2, "a failing one holds back its own transaction"
        assert await settle(store, again, End.BACK)
        [again] = await claim(store)
        assert await settle(store, again, End.DONE)
        [third] = await claim(store)
        assert third.event_id == a3
        assert await settle(store, third, End.DONE)
        assert await store.redis.keys("hr:lane:*:a") == []

    with_store(redis_url, check)


def test_a_lease_that_runs_out_keeps_the_place(redis_url: str) -> None:
    async def check(store: Store) -> None:
        a1, a2 = await receive(store, "a", "a")
        await store.due.claim("one", most=1, limits=Limits(1, 100))
        await asyncio.sleep(0.005)
        await store.due.release("one", lease_ms=60_000)
        [claimed] = await claim(store)
        assert claimed.event_id == a1
        await settle(store, claimed, End.DONE)
        assert [claimed.event_id for claimed in await claim(store)] == [a2]

    with_store(redis_url, check)


def test_after_a_dead_letter_the_rest_goes_on(redis_url: str) -> None:
    async def check(store: Store) -> None:
        a1, a2, a3 = await receive(store, "a", "a", "a")
        [claimed] = await claim(store)
        await settle(store, claimed, End.DEAD)
        [claimed] = await claim(store)
        assert claimed.event_id == a2
        # The dead one is replayed: it comes behind what waits, never beside it.
        assert await replay(store, a1, a1) == [b"replayed", b"waiting"]
        assert await claim(store) == []
        await settle(store, claimed, End.DONE)
        for expected in (a3, a1):
            [claimed] = await claim(store)
            assert claimed.event_id == expected
            await settle(store, claimed, End.DONE)
        assert await store.redis.zcard("hr:open") == 0

    with_store(redis_url, check)


async def replay(store: Store, *ids: str) -> list[bytes]:
    keys = ["hr:due:one", "hr:leased:one", "hr:dead:one"]
    replies: list[bytes] = await store.client.run("replay", keys, ["one", *ids])
    return replies


def test_with_hold_the_rest_waits_for_a_hand(redis_url: str) -> None:
    async def check(store: Store) -> None:
        a1, a2 = await receive(store, "a", "a")
        [claimed] = await claim(store)
        await settle(store, claimed, End.DEAD, hold=True)
        assert await claim(store) == []
        assert await replay(store, a2) == [b"waiting"], "its turn comes after the first's"
        assert await replay(store, a1) == [b"replayed"]
        [claimed] = await claim(store)
        assert claimed.event_id == a1
        await settle(store, claimed, End.DONE, hold=True)
        assert [claimed.event_id for claimed in await claim(store)] == [a2]

    with_store(redis_url, check)


def test_a_dead_letter_past_retention_holds_nobody(redis_url: str) -> None:
    async def check(store: Store) -> None:
        _, a2 = await receive(store, "a", "a")
        [claimed] = await claim(store)
        await settle(store, claimed, End.DEAD, hold=True)
        await store.upkeep.retain(["one"], events_ms=60_000, dead_letters_ms=-60_000, under_pressure=False)
        assert [claimed.event_id for claimed in await claim(store)] == [a2]

    with_store(redis_url, check)


@pytest.mark.parametrize("hold", [False, True])
def test_giving_up_takes_a_lane_s_first_and_then_the_next(hold: bool, redis_url: str) -> None:
    async def check(store: Store) -> None:
        await receive(store, "a", "a", "b")

        async def give_up() -> int:
            return await store.targets.give_up("one", due_before_ms=None, reason=REMOVED, hold=hold)

        assert await give_up() == 2
        assert await give_up() == (0 if hold else 1)

    with_store(redis_url, check)


def test_the_late_success_of_one_that_was_replayed_leaves_the_lease_of_the_next_alone(redis_url: str) -> None:
    async def check(store: Store) -> None:
        a1, a2 = await receive(store, "a", "a")
        slow = (await store.due.claim("one", most=1, limits=Limits(1, 100))).entries[0][0]
        await asyncio.sleep(0.01)
        await store.due.release("one", lease_ms=60_000)
        [quick] = await claim(store)
        await settle(store, quick, End.DONE)
        [after] = await claim(store)
        assert (after.event_id, await replay(store, a1)) == (a2, [b"replayed"])
        assert await settle(store, slow, End.DONE)
        assert await store.redis.zscore("hr:leased:one", a2) is not None
        assert await claim(store) == [], "nobody else gets it meanwhile"

    with_store(redis_url, check)


@pytest.mark.case(n=49)
def test_what_a_dead_letter_holds_is_counted_and_can_be_let_go(redis_url: str) -> None:
    async def check(store: Store) -> None:
        lanes = Lanes(store.client)
        a1, a2, _, b1 = await receive(store, "a", "a", "a", "b")
        first, other = await claim(store)
        await settle(store, first, End.DEAD, hold=True)
        await settle(store, other, End.DEAD, hold=True)
        assert await lanes.held(["one", "two"]) == {"one": 2, "two": 0}
        assert (await store.targets.views(["one"]))[0].held == 2
        assert (await store.upkeep.waiting([], ["one"])).held == ["one"]
        assert await replay(store, b1) == [b"replayed"], "the one that holds is on its way: nothing is held"
        assert await lanes.let_go("one") == 1
        assert await lanes.let_go("one") == 0, "said again"
        assert {each.event_id for each in await claim(store)} == {a2, b1}
        assert (await store.upkeep.waiting([], ["one"])).held == []
        assert await store.redis.zscore("hr:dead:one", a1) is not None, "the dead letter stays one"

    with_store(redis_url, check)


@pytest.mark.case(n=49)
@pytest.mark.case(n=38)
def test_what_an_earlier_version_held_is_found_by_its_dead_letters(redis_url: str) -> None:
    async def check(store: Store) -> None:
        lanes = Lanes(store.client)
        await receive(store, "a", "a", "b", "")
        first, other, alone = await claim(store)
        await settle(store, first, End.DEAD, hold=True)
        await settle(store, other, End.DEAD)
        await settle(store, alone, End.DEAD, hold=True)
        await store.redis.delete("hr:held:one")  # as it was
        assert await lanes.find("one") == 1
        assert await lanes.find("one") == 0, "said again"
        assert await lanes.held(["one"]) == {"one": 1}

    with_store(redis_url, check)


@pytest.mark.case(n=49)
@pytest.mark.case(n=38)
def test_what_an_earlier_version_replayed_keeps_its_place_if_the_rest_is_let_go(redis_url: str) -> None:
    async def check(store: Store) -> None:
        a1, a2 = await receive(store, "a", "a")
        [claimed] = await claim(store)
        await settle(store, claimed, End.DEAD, hold=True)
        await replay(store, a1)
        await store.redis.sadd("hr:held:one", "a")  # it knows of no such record
        await Lanes(store.client).let_go("one")
        [claimed] = await claim(store)
        assert claimed.event_id == a1
        await settle(store, claimed, End.DONE)
        assert [claimed.event_id for claimed in await claim(store)] == [a2]

    with_store(redis_url, check)


@pytest.mark.case(n=49)
def test_a_removed_target_s_held_events_become_dead_letters_too(redis_url: str) -> None:
    async def check(store: Store) -> None:
        ids = await receive(store, "a", "a", "a", "b", "b")
        for each in await claim(store):
            await settle(store, each, End.DEAD, hold=True)
        await store.redis.delete("hr:held:one")  # an earlier version wrote these
        assert await store.targets.remove("one", user="me") == 3
        assert [await store.redis.zscore("hr:dead:one", id) is not None for id in ids] == [True] * 5
        assert await store.redis.keys("hr:lane:*") == await store.redis.keys("hr:held:*") == []
        assert await store.redis.hget(f"hr:event:{ids[2]}", "why:one") == str(REMOVED).encode()
        assert await store.targets.remove("one", user="me") == 0, "said again"

    with_store(redis_url, check)


@pytest.mark.case(n=49)
def test_an_event_says_behind_which_it_is_held(redis_url: str) -> None:
    async def check(store: Store) -> None:
        a1, a2 = await receive(store, "a", "a")
        deliveries = Deliveries(store.client)

        async def why(id: str) -> tuple[str, str | None, str | None]:
            [view] = await deliveries.of_event(id) or []
            assert view.state == "waiting"
            assert view.why is not None
            return view.why.word, view.why.behind, view.why.behind_state

        assert await why(a1) == ("due", None, None)
        assert await why(a2) == ("held", a1, "waiting")
        await settle(store, (await claim(store))[0], End.DEAD, hold=True)
        assert await why(a2) == ("held", a1, "dead")
        # Moved to disk, and the rest of its event removed.
        await store.redis.zrem("hr:dead:one", a1)
        await store.redis.hset(f"hr:event:{a1}", "end:one", "disk")
        assert await why(a2) == ("held", a1, "dead")
        await store.redis.delete(f"hr:event:{a1}")
        assert await why(a2) == ("held", a1, "dead")

    with_store(redis_url, check)


def test_one_worker_admits_in_turn_and_takes_up_what_the_one_before_it_left(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.put(b"1", b"2", b"3")
        entries = await store.inbox.begin_turn(SOURCE, "first")
        assert entries is not None
        assert [entry.body for entry in entries] == [b"1", b"2", b"3"]
        assert [entry.takes_alone for entry in entries] == [0, 0, 0]
        assert await store.inbox.begin_turn(SOURCE, "second") is None
        outcomes = await store.admit(entries[:1], "one", fence="first")
        assert [outcome.what for outcome in outcomes] == ["admitted"]

        # The first dies, and its turn runs out. What it had taken comes first, and is taken alone.
        await store.redis.delete("hr:turn:trustshare")
        await store.put(b"4")
        left = await store.inbox.begin_turn(SOURCE, "second")
        assert left is not None
        assert [(entry.body, entry.takes_alone) for entry in left] == [(b"2", 1)]
        assert await store.inbox.take_in_turn(SOURCE, "first") is None, "it gets nothing any more"
        with pytest.raises(StoreUnavailable, match="FENCED"):
            await store.admit(left, "one", fence="first")
        await store.admit(left, "one", fence="second")
        for body in (b"3", b"4"):
            [entry] = await store.inbox.take_in_turn(SOURCE, "second") or []
            assert entry.body == body
            await store.admit([entry], "one", fence="second")
        await store.inbox.end_turn(SOURCE, "first")
        assert await store.inbox.begin_turn(SOURCE, "third") is None, "only its holder ends a turn"
        await store.inbox.end_turn(SOURCE, "second")
        assert await store.inbox.begin_turn(SOURCE, "third") is not None

    with_store(redis_url, check)


def test_a_turn_takes_up_what_a_worker_took_and_left_before_its_source_was_admitted_in_turn(
    redis_url: str,
) -> None:
    async def check(store: Store) -> None:
        await store.put(b"1")
        [taken] = await store.inbox.take(SOURCE, WORKER)
        assert await store.inbox.begin_turn(SOURCE, "first") == [], "that worker may be at it"
        key = "hr:inbox:trustshare"
        await store.redis.xclaim(key, GROUP, WORKER, 0, [taken.stream_id], idle=LEFT_BEHIND_MS)
        await store.put(b"2")
        left = await store.inbox.begin_turn(SOURCE, "second") or []
        assert [(entry.body, entry.takes_alone) for entry in left] == [(b"1", 1)]

    with_store(redis_url, check)


def test_a_turn_ends_as_nothing_is_found_and_what_comes_then_rings(redis_url: str) -> None:
    async def check(store: Store) -> None:
        flag = "hr:rung:headrace.admit:trustshare"
        assert await store.inbox.begin_turn(SOURCE, "early") == [], "no inbox yet, and no group"
        await store.put(b"1")
        assert await store.redis.exists(flag)
        entries = await store.inbox.begin_turn(SOURCE, "first")
        assert entries is not None, "the one before has ended"
        assert not await store.redis.exists(flag), "what comes from now on rings"
        await store.put(b"2")
        assert await store.inbox.begin_turn(SOURCE, "second") is None
        assert await store.redis.exists(flag), "whose turn it is takes it"
        await store.admit(entries, "one", fence="first")
        [entry] = await store.inbox.take_in_turn(SOURCE, "first") or []
        assert await store.redis.exists("hr:turn:trustshare")
        await store.admit([entry], "one", fence="first")
        assert await store.inbox.take_in_turn(SOURCE, "first") == []
        assert not await store.redis.exists(flag, "hr:turn:trustshare")

    with_store(redis_url, check)
