"""The inbox on a real Redis: commit, take, take over, admit; each step twice where a reply may be lost."""

import asyncio
import json
from functools import partial
from typing import Any

import pytest
from celery import Celery

from shared.errors import StoreUnavailable
from shared.event.canonical import DedupeKey
from shared.settings import PREFIX
from shared.store.address import parse_address
from shared.store.admission import Admission, AdmissionOptions, Entry, Quarantine
from shared.store.bells import Bells
from shared.store.doorbell import ADMIT, Doorbell, envelope, queue
from shared.store.inbox import Inbox, Received
from tests.integration.store import (
    ATTRIBUTES,
    DATA,
    RETENTION_MS,
    SOURCE,
    WINDOW_MS,
    WORKER,
    Store,
    with_store,
)


def always(key: DedupeKey, _: Entry) -> DedupeKey:
    return key


def by_body(entry: Entry) -> DedupeKey:
    return DedupeKey((entry.body.decode(),))


def test_a_commit_stores_and_rings_once_for_all(redis_url: str) -> None:
    async def check(store: Store) -> None:
        ids = await store.put(*(b"%d" % i for i in range(300)))
        assert len(set(ids)) == 300
        assert await store.redis.xlen("hr:inbox:trustshare") == 300
        assert await store.redis.llen("headrace") == 1, "a flag suppresses further doorbells"
        taken: list[Entry] = []
        while batch := await store.inbox.take(SOURCE, WORKER):
            taken += batch
        assert [entry.id for entry in taken] == ids, "the receipt is the event's id"
        assert [entry.body for entry in taken] == [b"%d" % i for i in range(300)], "oldest first"

    with_store(redis_url, check)


def test_a_commit_rings_though_redis_has_forgotten_the_scripts(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.redis.script_flush()
        await store.put(b"x")
        assert await store.redis.llen("headrace") == 1

    with_store(redis_url, check)


def test_each_item_of_a_commit_gets_its_own_error(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.redis.set("hr:inbox:broken", "not a stream")
        replies = await store.inbox.put(
            [Received(source, b"x", {}) for source in ("broken", "good", "broken")]
        )
        assert [type(reply) for reply in replies] == [StoreUnavailable, str, StoreUnavailable]

    with_store(redis_url, check)


def test_fewer_replicas_than_wanted_is_no_commit(redis_url: str) -> None:
    async def check(store: Store) -> None:
        with pytest.raises(StoreUnavailable, match="0 of 1"):
            await Inbox(store.client, wait_replicas=1).put([Received(SOURCE, b"x", {})])

    with_store(redis_url, check)


def test_bells_ring_once_a_second_and_not_into_a_long_queue(redis_url: str) -> None:
    async def check(store: Store) -> None:
        bells, bell = Bells(store.client), Doorbell(ADMIT, SOURCE)
        await bells.ring([bell, bell])
        assert await bells.queued() == 1
        await bells.lower_flag(bell)
        await bells.ring([bell])
        assert await bells.queued() == 2, "answered: what comes now rings again"
        await bells.lower_flag(bell)
        await store.redis.lpush("headrace", *(["x"] * 998))
        await bells.ring([bell])
        assert await bells.queued() == 1000
        assert await store.redis.exists("hr:rung:headrace.admit:trustshare") == 0, "no flag without a bell"

    with_store(redis_url, check)


def test_the_envelope_is_what_celery_itself_publishes(redis_url: str) -> None:
    """Ours against a real publish through Redis: nothing differs but what is each message's own."""
    url, options = parse_address(redis_url, PREFIX).broker()
    app = Celery("other", set_as_current=False)
    app.conf.update(broker_url=url, broker_transport_options=options, task_queues=[queue()])
    with app.connection_for_write() as connection:
        app.send_task(ADMIT, args=[SOURCE], queue="headrace", connection=connection, ignore_result=True)

    def apart(message: bytes) -> tuple[dict[str, Any], set[str]]:
        """The message without what is its own; and that."""
        found = json.loads(message)
        own = {found["properties"].pop(key) for key in ("correlation_id", "delivery_tag", "reply_to")}
        return found, own | {found["headers"].pop(key) for key in ("id", "root_id", "origin")}

    async def check(store: Store) -> None:
        published: Any = await store.redis.lrange("headrace", 0, -1)
        first, second = (apart(envelope(Doorbell(ADMIT, SOURCE))) for _ in range(2))
        assert first[0] == second[0] == apart(published[0])[0]
        # The process that rendered it, and where it would want its answer, are the same.
        assert len(first[1]) == 4
        assert len(first[1] & second[1]) == 2

    with_store(redis_url, check)
    app.close()


def test_taking_creates_the_group_where_there_is_none_and_again_where_it_is_lost(redis_url: str) -> None:
    async def check(store: Store) -> None:
        assert await store.inbox.take(SOURCE, WORKER) == []
        await store.put(b"a")
        await store.redis.xgroup_destroy("hr:inbox:trustshare", "workers")
        assert [entry.body for entry in await store.inbox.take(SOURCE, WORKER)] == [b"a"]
        assert await store.inbox.take(SOURCE, "worker-2") == [], "what one took, no other takes"

    with_store(redis_url, check)


def test_large_bodies_are_taken_fewer_at_once(redis_url: str) -> None:
    async def check(store: Store) -> None:
        large = b"x" * 1024 * 1024
        await store.put(large)
        await store.inbox.take(SOURCE, WORKER)
        for _ in range(10):
            await store.put(*([large] * 10))
        assert len(await store.inbox.take(SOURCE, WORKER)) == 64, "64 MiB in memory"

    with_store(redis_url, check)


def test_admission_is_all_of_it_and_said_twice_it_is_gone(redis_url: str) -> None:
    async def check(store: Store) -> None:
        [id] = await store.put(b'{"a":1}')
        entries = await store.inbox.take(SOURCE, WORKER)
        first = await store.admit(entries, "one", "two")
        again = await store.admit(entries, "one", "two")
        assert [(outcome.what, outcome.of) for outcome in first + again] == [("admitted", ""), ("gone", "")]
        assert await store.redis.xlen("hr:inbox:trustshare") == 0
        assert (await store.redis.xpending("hr:inbox:trustshare", "workers"))["pending"] == 0
        event = await store.redis.hgetall(f"hr:event:{id}")
        assert event[b"body"] == b'{"a":1}'
        assert (event[b"targets"], event[b"open"]) == (b"one,two", b"2")
        assert [await store.redis.zcard(key) for key in ("hr:due:one", "hr:due:two", "hr:open")] == [1, 1, 1]

    with_store(redis_url, check)


def test_a_copy_makes_no_delivery_and_is_recorded(redis_url: str) -> None:
    async def check(store: Store) -> None:
        [first] = await store.put(b"same")
        await store.admit(await store.inbox.take(SOURCE, WORKER), "one", dedupe=lambda _: DedupeKey(("k",)))
        same, other = await store.put(b"same", b"other body, same key")
        outcomes = await store.admit(
            await store.inbox.take(SOURCE, WORKER), "one", dedupe=lambda _: DedupeKey(("k",))
        )
        assert [(outcome.what, outcome.of) for outcome in outcomes] == [("duplicate", first)] * 2
        assert await store.redis.zcard("hr:due:one") == 1
        assert await store.redis.hget(f"hr:event:{first}", "copies") == b"2"
        assert await store.redis.hget(f"hr:duplicate:{same}", "of") == first.encode()
        assert await store.redis.hexists(f"hr:duplicate:{same}", "body") is False
        assert await store.redis.hget(f"hr:duplicate:{other}", "body") == b"other body, same key"

    with_store(redis_url, check)


def test_copies_in_one_batch_are_found_too(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.put(*([b"same"] * 50))
        outcomes = await store.admit(await store.inbox.take(SOURCE, WORKER), "one", dedupe=by_body)
        assert [outcome.what for outcome in outcomes] == ["admitted"] + ["duplicate"] * 49

    with_store(redis_url, check)


def test_two_sources_never_share_a_key(redis_url: str) -> None:
    async def check(store: Store) -> None:
        for source in ("a", "b"):
            await store.put(b"same", source=source)
            [outcome] = await store.admit(await store.inbox.take(source, WORKER), "one", dedupe=by_body)
            assert outcome.what == "admitted"

    with_store(redis_url, check)


def test_a_second_dispute_passes_and_its_re_send_does_not(redis_url: str) -> None:
    raised = DedupeKey(("dispute_raised", "t"), counts="dispute_resolved:t", raises="dispute_raised:t")
    resolved = DedupeKey(("dispute_resolved", "t"), counts="dispute_raised:t", raises="dispute_resolved:t")

    async def check(store: Store) -> None:
        said = []
        for key in (raised, raised, resolved, resolved, raised, raised, resolved):
            await store.put(b"x")
            entries = await store.inbox.take(SOURCE, WORKER)
            [outcome] = await store.admit(entries, dedupe=partial(always, key))
            said.append(outcome.what)
        new, copy = "admitted", "duplicate"
        assert said == [new, copy, new, copy, new, copy, new]

    with_store(redis_url, check)


def test_quarantine_keeps_the_body_and_the_reason(redis_url: str) -> None:
    async def check(store: Store) -> None:
        id, copy = await store.put(b"\xff", b"\xff")
        entries = await store.inbox.take(SOURCE, WORKER)
        outcomes = await store.inbox.admit(
            SOURCE,
            [Quarantine(entry, "not-json", "the body is not UTF-8") for entry in entries],
            AdmissionOptions(WINDOW_MS, RETENTION_MS),
        )
        assert [outcome.what for outcome in outcomes] == ["quarantined", "duplicate"]
        kept = await store.redis.hgetall(f"hr:quarantined:{id}")
        assert (kept[b"body"], kept[b"code"], kept[b"source"]) == (b"\xff", b"not-json", SOURCE.encode())
        assert await store.redis.hget(f"hr:duplicate:{copy}", "of") == id.encode()
        assert await store.redis.hexists(f"hr:duplicate:{copy}", "body") is False, "it is the same body"

    with_store(redis_url, check)


def test_many_targets_are_split_over_calls_and_all_admitted(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.put(*(b"%d" % i for i in range(60)))
        targets = [f"t{i}" for i in range(100)]
        outcomes = await store.admit(await store.inbox.take(SOURCE, WORKER), *targets, dedupe=by_body)
        assert [outcome.what for outcome in outcomes] == ["admitted"] * 60
        assert {await store.redis.zcard(f"hr:due:{target}") for target in targets} == {60}

    with_store(redis_url, check)


def test_arguments_that_are_wrong_write_nothing(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.put(b"a", b"b")
        good, bad = await store.inbox.take(SOURCE, WORKER)
        bad = Entry(stream_id=" 5-1", source=SOURCE, body=b"b", headers={})
        batch = [Admission(entry, None, ["one"], ATTRIBUTES, DATA) for entry in (good,)]
        with pytest.raises((StoreUnavailable, ValueError)):
            await store.inbox.admit(
                SOURCE,
                [*batch, Admission(bad, None, ["one"], ATTRIBUTES, DATA)],
                AdmissionOptions(WINDOW_MS, RETENTION_MS),
            )
        assert await store.redis.zcard("hr:due:one") == 0
        assert await store.redis.xlen("hr:inbox:trustshare") == 2

    with_store(redis_url, check)


@pytest.mark.case(n=5)
def test_what_a_dead_worker_took_is_taken_over_one_by_one_and_counted(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.store.inbox.LEFT_BEHIND_MS", 50)

    async def check(store: Store) -> None:
        assert await store.inbox.take_over(SOURCE, WORKER) is None, "no group, nothing left behind"
        await store.put(b"a", b"b", b"c")
        taken = await store.inbox.take(SOURCE, "dead")
        assert await store.inbox.take_over(SOURCE, WORKER) is None, "not long enough"
        await asyncio.sleep(0.1)
        first = await store.inbox.take_over(SOURCE, WORKER)
        assert first is not None
        assert (first.body, first.id, first.takes_alone) == (b"a", taken[0].id, 1)
        await store.admit([first], "one")
        # Deleted behind our back: acknowledged and passed over, on 6.2 as on 7.
        await store.redis.xdel("hr:inbox:trustshare", taken[1].stream_id)
        third = await store.inbox.take_over(SOURCE, WORKER)
        assert third is not None
        assert (third.body, third.takes_alone) == (b"c", 1)
        assert await store.inbox.take_over(SOURCE, WORKER) is None
        await asyncio.sleep(0.1)
        again = await store.inbox.take_over(SOURCE, "worker-2")
        assert again is not None
        assert again.takes_alone == 2, "counted over workers"
        await store.admit([again], "one")
        assert (await store.redis.xpending("hr:inbox:trustshare", "workers"))["pending"] == 0
        assert await store.redis.exists("hr:alone:trustshare") == 0

    with_store(redis_url, check)


def test_a_suspended_worker_s_late_admission_changes_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.store.inbox.LEFT_BEHIND_MS", 0)

    async def check(store: Store) -> None:
        await store.put(b"a")
        slow = await store.inbox.take(SOURCE, "slow")
        quick = await store.inbox.take_over(SOURCE, "quick")
        assert quick is not None
        assert [outcome.what for outcome in await store.admit([quick], "one")] == ["admitted"]
        assert [outcome.what for outcome in await store.admit(slow, "one")] == ["gone"]
        assert await store.redis.zcard("hr:due:one") == 1

    with_store(redis_url, check)


def test_tidying_removes_only_idle_consumers_that_hold_nothing(redis_url: str) -> None:
    async def check(store: Store) -> None:
        await store.inbox.tidy(SOURCE)
        await store.put(b"a")
        await store.admit(await store.inbox.take(SOURCE, "idle"))
        await store.put(b"b")
        await store.inbox.take(SOURCE, "holds")
        await store.inbox.tidy(SOURCE)
        assert len(await store.redis.xinfo_consumers("hr:inbox:trustshare", "workers")) == 2
        await asyncio.sleep(0.02)
        await store.inbox.tidy(SOURCE, idle_ms=10)
        [left] = await store.redis.xinfo_consumers("hr:inbox:trustshare", "workers")
        assert left["name"] == b"holds"

    with_store(redis_url, check)
