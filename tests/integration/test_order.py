"""Ordered targets on a real Redis: one of a transaction at a time, in inbox order, whatever happens to it."""

import asyncio

import pytest

from shared.errors import StoreUnavailable
from shared.store.due import Attempt, Claimed, End, Limits, Patience, Settlement
from tests.integration.store import SOURCE, WORKER, Store, with_store

LIMITS = Limits(lease_ms=60_000, concurrency=100)
ATTEMPT = Attempt(n=1, at_ms=1, duration_ms=1, status=500)


def patience(*, hold: bool) -> dict[str, Patience]:
    rules = Patience(failures=1000, first_ms=1, longest_ms=1, disable_after_ms=10**12, hold=hold)
    return {"one": rules}


async def claim(store: Store) -> list[Claimed]:
    return [claimed for claimed, _ in (await store.due.claim("one", most=100, limits=LIMITS)).entries]


async def settle(store: Store, claimed: Claimed, end: End, *, hold: bool = False) -> bool:
    [changed], _ = await store.due.settle([Settlement(claimed, end, 0, ATTEMPT)], patience(hold=hold))
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
def test_burying_takes_a_lane_s_first_and_then_the_next(hold: bool, redis_url: str) -> None:
    async def check(store: Store) -> None:
        await receive(store, "a", "a", "b")
        assert await store.targets.bury("one", due_before_ms=None, why="why", hold=hold) == 2
        assert await store.targets.bury("one", due_before_ms=None, why="why", hold=hold) == (0 if hold else 1)

    with_store(redis_url, check)


def test_one_worker_admits_in_turn_and_takes_up_what_the_one_before_it_left(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.put(b"1", b"2", b"3")
        assert await store.inbox.begin_turn(SOURCE, "first")
        assert not await store.inbox.begin_turn(SOURCE, "second")
        entries = await store.inbox.take_in_turn(SOURCE, "first")
        assert [entry.body for entry in entries] == [b"1", b"2", b"3"]
        assert [entry.takes_alone for entry in entries] == [0, 0, 0]
        outcomes = await store.admit(entries[:1], "one", fence="first")
        assert [outcome.what for outcome in outcomes] == ["admitted"]

        # The first dies, and its turn runs out. What it had taken comes first, and is taken alone.
        await store.redis.delete("hr:turn:trustshare")
        assert await store.inbox.begin_turn(SOURCE, "second")
        await store.put(b"4")
        left = await store.inbox.take_in_turn(SOURCE, "second")
        assert [(entry.body, entry.takes_alone) for entry in left] == [(b"2", 1)]
        assert await store.inbox.take_in_turn(SOURCE, "first") == [], "it gets nothing any more"
        with pytest.raises(StoreUnavailable, match="FENCED"):
            await store.admit(left, "one", fence="first")
        await store.admit(left, "one", fence="second")
        for body in (b"3", b"4"):
            [entry] = await store.inbox.take_in_turn(SOURCE, "second")
            assert entry.body == body
            await store.admit([entry], "one", fence="second")
        assert await store.inbox.take_in_turn(SOURCE, "second") == []
        await store.inbox.end_turn(SOURCE, "first")
        assert not await store.inbox.begin_turn(SOURCE, "third"), "only its holder ends a turn"
        await store.inbox.end_turn(SOURCE, "second")
        assert await store.inbox.begin_turn(SOURCE, "third")

    with_store(redis_url, check)
