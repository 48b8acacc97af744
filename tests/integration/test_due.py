"""The due sets on a real Redis: claim, settle, release; every transition said twice."""

import asyncio

import pytest

from shared.delivery.verdicts import GivenUp, Reason
from shared.store.due import (
    READ_AT_ONCE,
    Attempt,
    BreakerPolicy,
    Claimed,
    ClaimRequest,
    End,
    Limits,
    Settlement,
)
from shared.store.upkeep import Removed
from tests.integration.due import Claims
from tests.integration.store import Store, with_store

LEASE_MS = 60_000
PATIENT = BreakerPolicy(failures=1000, first_ms=1000, longest_ms=1000, disable_after_ms=10**12)


async def claim(store: Store, most: int = 10, *, concurrency: int = 100, lease_ms: int = LEASE_MS) -> Claims:
    return await store.due.claim("one", most=most, limits=Limits(lease_ms, concurrency))


async def settle(store: Store, batch: list[Settlement]) -> list[bool]:
    settled, _ = await store.due.settle(batch, {"one": PATIENT, "two": PATIENT})
    return settled


async def claim_one(store: Store, *, lease_ms: int = LEASE_MS) -> Claimed:
    [(claimed, _)] = (await claim(store, lease_ms=lease_ms)).entries
    return claimed


async def places(store: Store, id: str) -> set[str]:
    """In which sets a delivery stands: exactly one, whatever happens."""
    sets = {"due": "hr:due:one", "leased": "hr:leased:one", "dead": "hr:dead:one"}
    return {name for name, key in sets.items() if await store.redis.zscore(key, id) is not None}


ATTEMPT = Attempt(n=1, at_ms=1, duration_ms=2.5, status=500)


def test_a_claim_gets_the_event_and_leases_it(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b'{"a":1}', "one")
        claims = await claim(store)
        [(claimed, event)] = claims.entries
        assert (claimed.event_id, claimed.failed, claimed.token) == (id, 0, claims.now_ms + LEASE_MS)
        assert (event.body, event.content_type) == (b'{"a":1}', "application/json")
        assert (claims.more, claims.next_due_s) == (0, None)
        assert (await claim(store)).entries == [], "what is leased nobody else gets"
        assert await places(store, id) == {"leased"}

    with_store(redis_url, check)


def test_a_claim_takes_the_oldest_within_room_and_concurrency(redis_url: str) -> None:
    async def check(store: Store) -> None:
        ids = [await store.event(b"%d" % i, "one") for i in range(6)]
        two = await claim(store, 2)
        assert [claimed.event_id for claimed, _ in two.entries] == ids[:2]
        assert two.more == 4
        assert len((await claim(store, 10, concurrency=3)).entries) == 1, "two are in flight already"
        assert (await claim(store, 10, concurrency=3)).entries == []

    with_store(redis_url, check)


def test_events_are_read_in_the_order_asked_for_and_what_is_gone_is_none(redis_url: str) -> None:
    async def check(store: Store) -> None:
        ids = [await store.event(b"%d" % i, "one") for i in range(2 * READ_AT_ONCE + 1)]
        await store.redis.delete(f"hr:event:{ids[3]}")
        found = await store.due.read(ids)
        assert [event and event.id for event in found] == [*ids[:3], None, *ids[4:]]
        assert [event.body for event in found if event][:4] == [b"0", b"1", b"2", b"4"]
        assert await store.due.read([]) == []

    with_store(redis_url, check)


def test_what_is_gone_waits_no_more_once_it_is_handed_back(redis_url: str) -> None:
    async def check(store: Store) -> None:
        ids = [await store.event(b"%d" % i, "one") for i in range(2)]
        await store.redis.delete(f"hr:event:{ids[0]}")
        [claims] = (
            await store.due.settle_and_claim([], {}, [ClaimRequest("one", 10, Limits(LEASE_MS, 100))])
        ).claims
        assert not isinstance(claims, Exception)
        claimed = claims.entries
        assert [each.event_id for each in claimed] == ids
        assert [event and event.id for event in await store.due.read(ids)] == [None, ids[1]]
        assert await settle(store, [Settlement(each, End.BACK) for each in claimed]) == [False, True]
        assert await places(store, ids[0]) == set()
        assert await places(store, ids[1]) == {"due"}

    with_store(redis_url, check)


def test_success_is_final_and_finishes_the_event(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one", "two")
        claimed = await claim_one(store)
        done = Settlement(claimed, End.DONE, attempt=ATTEMPT)
        assert await settle(store, [done]) == [True]
        assert await settle(store, [done, done]) == [False, False], "said again, it changes nothing"
        assert await store.redis.hget(f"hr:event:{id}", "open") == b"1"
        assert await places(store, id) == set()
        assert await store.redis.hlen(f"hr:attempts:{id}") == 1
        [(other, _)] = (await store.due.claim("two", most=1, limits=Limits(LEASE_MS, 1))).entries
        await settle(store, [Settlement(other, End.DONE)])
        assert (await store.redis.zcard("hr:open"), await store.redis.zcard("hr:finished")) == (0, 1)

    with_store(redis_url, check)


def test_a_success_said_again_after_a_replay_leaves_the_replay_alone(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        done = Settlement(await claim_one(store), End.DONE, attempt=ATTEMPT)
        assert await settle(store, [done]) == [True]
        replay = ["hr:due:one", "hr:leased:one", "hr:dead:one"]
        assert await store.client.run("replay", replay, ["one", id]) == [b"replayed"]
        assert await settle(store, [done]) == [False], "its reply was lost, and it is said again"
        assert await places(store, id) == {"due"}

    with_store(redis_url, check)


def test_failure_needs_the_token_and_success_does_not(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        slow = await claim_one(store, lease_ms=1)
        await asyncio.sleep(0.01)
        await store.due.release("one", lease_ms=LEASE_MS)
        quick = await claim_one(store)
        late = [Settlement(slow, end, 0, ATTEMPT) for end in (End.RETRY, End.DEAD, End.BACK)]
        assert await settle(store, late) == [False] * 3
        assert await places(store, id) == {"leased"}, "the new holder's lease stands"
        assert await settle(store, [Settlement(slow, End.DONE)]) == [True], "what arrived has arrived"
        assert await settle(store, [Settlement(quick, End.RETRY, 0, ATTEMPT)]) == [False]
        assert await places(store, id) == set()
        assert await store.redis.zcard("hr:finished") == 1

    with_store(redis_url, check)


def test_a_retry_is_due_later_and_counted(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.event(b"x", "one")
        claimed = await claim_one(store)
        retry = Settlement(claimed, End.RETRY, 5000, ATTEMPT)
        assert await settle(store, [retry]) == [True]
        assert await settle(store, [retry]) == [False]
        claims = await claim(store)
        assert claims.entries == []
        assert claims.next_due_s is not None
        assert 4 < claims.next_due_s <= 5
        await store.redis.zadd("hr:due:one", {claimed.event_id: 0})
        assert (await claim_one(store)).failed == 1

    with_store(redis_url, check)


@pytest.mark.case(n=53)
def test_a_delivery_ages_by_its_attempts_and_the_waits_between_them_alone(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        await store.redis.zadd("hr:due:one", {id: 1000})  # it has waited for half a century
        first = await claim_one(store)
        assert first.age_ms == 0
        attempt = Attempt(n=1, at_ms=1, duration_ms=200, status=500)
        retry = Settlement(first, End.RETRY, 5000, attempt)
        assert await settle(store, [retry, retry]) == [True, False]
        await store.redis.zadd("hr:due:one", {id: 1000})
        second = await claim_one(store)
        assert second.age_ms == 5200
        await settle(store, [Settlement(second, End.BACK)])
        third = await claim_one(store)
        assert third.age_ms == 5200, "a hand-back ages nothing"
        dead = Settlement(third, End.DEAD, 0, attempt, Reason(GivenUp.AGE, "gave up: older than max_age 3d"))
        await settle(store, [dead])
        assert await store.redis.hget(f"hr:event:{id}", "why:one") == b"age gave up: older than max_age 3d"
        places = ["hr:due:one", "hr:leased:one", "hr:dead:one"]
        assert await store.client.run("replay", places, ["one", id]) == [b"replayed"]
        assert (await claim_one(store)).age_ms == 0, "a replay starts it anew"
        assert await store.redis.hmget(f"hr:event:{id}", "why:one", "age:one") == [None, None]

    with_store(redis_url, check)


def test_a_success_in_one_batch_with_its_own_hand_back_counts(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        claimed = await claim_one(store)
        batch = [Settlement(claimed, End.BACK), Settlement(claimed, End.DONE, attempt=ATTEMPT)]
        assert await settle(store, batch) == [True, True]
        assert await places(store, id) == set()

    with_store(redis_url, check)


@pytest.mark.parametrize("end", [End.RETRY, End.DEAD, End.BACK])
@pytest.mark.parametrize("success_first", [True, False])
def test_a_late_success_in_one_batch_with_a_later_claim_of_the_same_delivery_ends_it(
    redis_url: str, end: End, success_first: bool
) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        slow = await claim_one(store, lease_ms=1)
        await asyncio.sleep(0.01)
        await store.due.release("one", lease_ms=LEASE_MS)
        batch = [
            Settlement(slow, End.DONE, attempt=ATTEMPT),
            Settlement(await claim_one(store), end, 0, ATTEMPT),
        ]
        if success_first:
            assert await settle(store, batch) == [True, False]
        else:
            assert await settle(store, batch[::-1]) == [True, True]
        assert await places(store, id) == set()
        assert await store.redis.hget(f"hr:event:{id}", "end:one") == b"done"
        assert await store.redis.zcard("hr:finished") == 1

    with_store(redis_url, check)


def test_a_success_that_comes_after_its_dead_letter_expired_changes_nothing(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one", "two")
        slow = await claim_one(store, lease_ms=1)
        await asyncio.sleep(0.01)
        await store.due.release("one", lease_ms=LEASE_MS)
        why = Reason(GivenUp.AGE, "too old")
        await settle(store, [Settlement(await claim_one(store), End.DEAD, 0, ATTEMPT, why)])
        assert await retain(store, dead_letters_ms=-60_000) == Removed(0, 1, 0, 0)
        before = await store.redis.hgetall(f"hr:event:{id}")
        assert before[b"why:one"] == b"age too old"
        assert await settle(store, [Settlement(slow, End.DONE, attempt=ATTEMPT)]) == [False]
        assert await store.redis.hgetall(f"hr:event:{id}") == before

    with_store(redis_url, check)


def test_a_success_in_one_batch_after_its_own_failure_changes_nothing(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        claimed = await claim_one(store)
        batch = [Settlement(claimed, end, 0, ATTEMPT) for end in (End.RETRY, End.DONE)]
        assert await settle(store, batch) == [True, False]
        assert await places(store, id) == {"due"}

    with_store(redis_url, check)


def test_a_hand_back_is_due_at_once_and_not_counted(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.event(b"x", "one")
        claimed = await claim_one(store)
        assert await settle(store, [Settlement(claimed, End.BACK)] * 2) == [True, False]
        assert (await claim_one(store)).failed == 0

    with_store(redis_url, check)


@pytest.mark.case(n=5)
def test_a_lease_that_runs_out_comes_back_uncharged_nine_times_and_the_tenth_is_charged(
    redis_url: str,
) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        for _ in range(9):
            await claim_one(store, lease_ms=1)
            await asyncio.sleep(0.003)
            assert await store.due.release("one", lease_ms=LEASE_MS) == (1, [])
            assert await store.due.release("one", lease_ms=LEASE_MS) == (0, []), "said again, nothing is left"
        await claim_one(store, lease_ms=1)
        await asyncio.sleep(0.003)
        back, [spent] = await store.due.release("one", lease_ms=LEASE_MS)
        assert (back, spent.event_id, spent.failed) == (0, id, 0)
        assert spent.age_ms == 0, "a lease that runs out ages nothing"
        assert await places(store, id) == {"leased"}, "the sweeper holds it until it is settled"
        assert await settle(store, [Settlement(spent, End.RETRY, 0, ATTEMPT)]) == [True]
        assert (await claim_one(store)).failed == 1

    with_store(redis_url, check)


def test_a_dead_letter_keeps_its_event_until_replay_or_retention(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        dead = Settlement(await claim_one(store), End.DEAD, attempt=ATTEMPT)
        assert await settle(store, [dead]) == [True]
        assert await settle(store, [dead]) == [False]
        assert await places(store, id) == {"dead"}
        assert await retain(store, events_ms=-60_000) == Removed(0, 0, 0, 0), "it is not finished"

        replies = await store.client.run(
            "replay", ["hr:due:one", "hr:leased:one", "hr:dead:one"], ["one", id, id]
        )
        assert replies == [b"replayed", b"waiting"]
        assert await places(store, id) == {"due"}
        claimed = await claim_one(store)
        assert claimed.failed == 0, "a replay starts the schedule anew"
        await settle(store, [Settlement(claimed, End.DEAD, attempt=ATTEMPT)])
        assert await retain(store, dead_letters_ms=-60_000) == Removed(0, 1, 0, 0)
        assert await places(store, id) == set()
        assert await retain(store, events_ms=-60_000) == Removed(1, 0, 0, 0)
        assert await store.redis.keys(f"*{id}*") == []

    with_store(redis_url, check)


async def retain(store: Store, *, events_ms: int = 600_000, dead_letters_ms: int = 600_000) -> Removed:
    return await store.upkeep.retain(
        ["one"], events_ms=events_ms, dead_letters_ms=dead_letters_ms, under_pressure=False
    )


def test_a_replay_of_a_finished_event_opens_it_again_and_may_add_a_target(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id = await store.event(b"x", "one")
        await settle(store, [Settlement(await claim_one(store), End.DONE)])
        for target in ("one", "new"):
            replay = [f"hr:due:{target}", f"hr:leased:{target}", f"hr:dead:{target}"]
            assert await store.client.run("replay", replay, [target, id]) == [b"replayed"]
        assert await store.redis.hmget(f"hr:event:{id}", "open", "targets") == [b"2", b"one,new"]
        assert (await store.redis.zcard("hr:open"), await store.redis.zcard("hr:finished")) == (1, 0)
        assert await store.client.run("replay", replay, ["new", "evt_none"]) == [b"gone"]

    with_store(redis_url, check)


def test_waiting_names_what_a_sweep_must_ring_for(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(store: Store) -> None:
        async def waiting() -> tuple[list[str], list[str], list[str]]:
            found = await store.upkeep.waiting(["trustshare", "other"], ["one", "two"])
            return found.sources, found.due, found.lapsed

        assert await waiting() == ([], [], [])
        await store.put(b"x")
        assert await waiting() == (["trustshare"], [], []), "no group yet: never taken"
        entries = await store.inbox.take("trustshare", "dead")
        assert await waiting() == ([], [], []), "a worker has it"
        monkeypatch.setattr("shared.store.upkeep.LEFT_BEHIND_MS", 0)
        assert await waiting() == (["trustshare"], [], []), "left behind"
        await store.admit(entries, "one")
        assert await waiting() == ([], ["one"], [])
        claimed = await claim_one(store, lease_ms=1)
        await asyncio.sleep(0.003)
        assert await waiting() == ([], [], ["one"])
        await store.redis.zadd("hr:leased:one", {claimed.event_id: claimed.token})
        await settle(store, [Settlement(claimed, End.RETRY, 60_000)])
        assert await waiting() == ([], [], [])

    with_store(redis_url, check)


def test_one_worker_sweeps_at_a_time_of_those_that_know_the_same_names(redis_url: str) -> None:
    async def check(store: Store) -> None:
        names: list[tuple[list[str], list[str]]] = [(["s"], ["a", "b"]), (["s"], ["b", "a"]), (["s"], ["a"])]
        sweepers = [await store.upkeep.may_sweep(f"w{number}", *known) for number, known in enumerate(names)]
        assert sweepers == [True, False, True]

    with_store(redis_url, check)


def test_under_pressure_copies_go_with_finished_events_the_oldest_first(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.store.upkeep.REMOVE_AT_ONCE", 2)

    async def check(store: Store) -> None:
        ids = []
        for body in (b"a", b"a", b"b", b"b"):
            ids += await store.put(body)
            await store.admit(await store.inbox.take("trustshare", "w"))
        assert await store.redis.zrange("hr:finished", 0, -1) == [ids[0].encode(), ids[2].encode()]
        left = [set(ids[2:]), set(), set()]
        for expected, removed in zip(
            left, [Removed(1, 0, 0, 1), Removed(1, 0, 0, 1), Removed()], strict=True
        ):
            gone = await store.upkeep.retain(
                [], events_ms=600_000, dead_letters_ms=600_000, under_pressure=True
            )
            kept = [id for id in ids if await store.redis.exists(f"hr:event:{id}", f"hr:duplicate:{id}")]
            assert (gone, set(kept)) == (removed, expected)

    with_store(redis_url, check)


def test_under_pressure_finished_events_go_and_open_ones_stay(redis_url: str) -> None:
    async def check(store: Store) -> None:
        finished = await store.event(b"finished", "one")
        await settle(store, [Settlement(await claim_one(store), End.DONE)])
        kept = await store.event(b"open", "one")
        gone = await store.upkeep.retain(
            ["one"], events_ms=600_000, dead_letters_ms=600_000, under_pressure=True
        )
        assert gone.events == 1
        assert await store.redis.exists(f"hr:event:{finished}") == 0
        assert await store.redis.exists(f"hr:event:{kept}") == 1

    with_store(redis_url, check)
