"""What operators read of the store, and sending again, against a real Redis."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from shared.archive.search import Search
from shared.event.ids import event_id, received_ms
from shared.operations.replays import Replayed, Replays, Selection
from shared.store.dead_letters import DeadLetterList
from shared.store.deliveries import Deliveries
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.due import End
from shared.store.keys import Keys
from shared.store.records import Records
from shared.store.views import CopyView, EventView, InboxView, QuarantineView
from shared.store.walk import Member, Span, walk

from .filled import ANSWER, E_MAIL, PAID, Filled, with_redis

KEYS = Keys()

ALL = Span(0, 2**53)
SOURCES = ["other", "trustshare"]


async def replay(store: Filled, selection: Selection, targets: Sequence[str]) -> Replayed:
    replays = Replays(store.client, targets)
    return await replays.run(selection, await replays.plan(selection), user="operator")


async def view_of(store: Filled, id: str) -> EventView:
    view = await Records(store.client).find(id, SOURCES)
    assert isinstance(view, EventView)
    return view


# -- finding


def test_a_receipt_is_found_wherever_its_request_stands(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        records = Records(store.client)
        [waiting] = await store.receive(PAID)
        found = await records.find(waiting, SOURCES)
        assert isinstance(found, InboxView)
        assert found.source == "trustshare"
        await store.admit("ledger", "crm")
        [copy], [unlike], [odd] = (
            await store.receive(PAID),
            await store.receive(PAID | {"amount": 1}),
            await store.receive(b"no JSON"),
        )
        await store.admit("ledger", "crm")

        event = await view_of(store, waiting)
        assert event.deliveries == {"ledger": "waiting", "crm": "waiting"}
        assert (event.type, event.transaction_id, event.copies) == ("payment.received", "tx-1", 2)
        assert event.money is not None
        assert event.money.amount_minor == 150000

        same, other = await records.find(copy, []), await records.find(unlike, [])
        assert isinstance(same, CopyView)
        assert isinstance(other, CopyView)
        assert (same.of, same.identical, other.of, other.identical) == (waiting, True, waiting, False)
        quarantined = await records.find(odd, [])
        assert isinstance(quarantined, QuarantineView)
        assert (quarantined.code, quarantined.bytes) == ("not-json", 7)

        assert await records.find(event_id("trustshare", "1-0"), SOURCES) is None

    with_redis(redis_url, body)


def test_a_receipt_in_the_inbox_of_an_unconfigured_source_is_not_guessed_at(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [receipt] = await store.receive(PAID, source="gone")
        assert await Records(store.client).find(receipt, SOURCES) is None

    with_redis(redis_url, body)


def test_no_view_holds_what_the_payload_says_of_people(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [id] = await store.receive(PAID)
        await store.admit("ledger")
        await store.receive(PAID)
        await store.receive(f"not JSON, from {E_MAIL}".encode())
        await store.admit("ledger")
        await store.settle("ledger", End.DEAD)
        records, deliveries = Records(store.client), Deliveries(store.client)
        views = msgspec.json.encode(
            [
                await records.find(id, SOURCES),
                await records.events(Search(), 10),
                await records.duplicates(ALL, None, 10),
                await records.quarantined(ALL, None, 10),
                await deliveries.of_event(id),
                await DeadLetterList(store.client).listing(["ledger"], ALL, 10),
            ]
        ).decode()
        assert E_MAIL not in views
        assert ANSWER not in views
        assert ANSWER in msgspec.json.encode(await deliveries.of_event(id, answers=True)).decode()

    with_redis(redis_url, body)


# -- listing


def test_events_are_listed_newest_first_over_open_and_finished_ones(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        ids = []
        for n in range(6):
            await asyncio.sleep(0.002)  # a millisecond of its own for each
            ids += await store.receive(PAID | {"paymentToken": f"p{n}"})
            await store.admit(*(["ledger"] if n % 2 else []))
        records = Records(store.client)
        listed = await records.events(Search(), 100)
        assert [view.id for view in listed] == ids[::-1]
        assert [view.id for view in await records.events(Search(), 2)] == ids[:-3:-1]
        third = received_ms(ids[2])
        assert [view.id for view in await records.events(Search(since_ms=third, until_ms=third), 9)] == [
            ids[2]
        ]
        nowhere = await records.events(Search(state="unmatched"), 9)
        assert [view.id for view in nowhere] == ids[::2][::-1]

    with_redis(redis_url, body)


def test_events_are_selected_by_source_type_and_state(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [mine] = await store.events(1, "ledger")
        await store.settle("ledger", End.DEAD)
        [other] = await store.events(1, "ledger", source="other")
        await store.settle("ledger", End.DONE, status=200)
        [raised] = await store.receive({"type": "dispute_raised", "token": "tx-9"})
        await store.admit("ledger")
        records = Records(store.client)

        async def listed(**wanted: Any) -> set[str]:
            return {view.id for view in await records.events(Search(**wanted), 9)}

        assert await listed(source="other") == {other}
        assert await listed(type="dispute.*") == {raised}
        assert await listed(type="payment.*", source="trustshare") == {mine}
        assert await listed(state="dead") == {mine}
        assert await listed(state="done") == {other}
        assert await listed(state="waiting") == {raised}
        assert await listed(state="expired") == set()

    with_redis(redis_url, body)


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_walk_yields_every_member_once_though_many_share_a_millisecond(
    redis_url: str, newest_first: bool
) -> None:
    async def body(store: Filled) -> None:
        scores = {f"id-{n:03}": n // 25 for n in range(100)}  # 25 to a score, and pages of 4
        for n, (id, score) in enumerate(scores.items()):
            await store.client.redis.zadd(("a", "b")[n % 2], {id: score})
        seen: list[Member] = []
        async for members in walk(store.client, ["a", "b"], Span(1, 2), newest_first=newest_first, page=4):
            seen += members
        expected = sorted((score, id) for id, score in scores.items() if 1 <= score <= 2)
        assert [member.position for member in seen] == (expected[::-1] if newest_first else expected)

    with_redis(redis_url, body)


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_walk_misses_and_doubles_nothing_that_moves_between_its_sets(
    redis_url: str, newest_first: bool
) -> None:
    async def body(store: Filled) -> None:
        redis = store.client.redis
        await redis.zadd("a", {f"{n:03}": n for n in range(0, 60, 2)})
        await redis.zadd("b", {f"{n:03}": n for n in range(1, 60, 2)})
        seen: list[str] = []
        async for members in walk(store.client, ["a", "b"], ALL, newest_first=newest_first, page=3):
            seen += [member.id for member in members]
            for n in range(60):  # all change places, those behind and those ahead
                here, there = ("a", "b") if await redis.zrem("a", f"{n:03}") else ("b", "a")
                await redis.zrem(here, f"{n:03}")
                await redis.zadd(there, {f"{n:03}": n})
        assert Counter(seen) == Counter(f"{n:03}" for n in range(60))

    with_redis(redis_url, body)


def test_duplicates_and_quarantine_are_listed_by_source(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        for source in SOURCES:
            await store.receive(PAID, PAID, b"{", source=source)
            await store.admit(source=source)
        records = Records(store.client)
        assert len(await records.duplicates(ALL, None, 9)) == 2
        assert len(await records.quarantined(ALL, None, 1)) == 1
        [copy] = await records.duplicates(ALL, "other", 9)
        [odd] = await records.quarantined(ALL, "other", 9)
        assert copy.source == odd.source == "other"
        assert await records.in_quarantine() == 2

    with_redis(redis_url, body)


# -- deliveries


def test_a_delivery_shows_where_it_is_and_what_was_tried(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [id] = await store.events(1, "fresh", "later", "held", "done", "dead", "silent")
        await store.settle("later", End.RETRY)
        await store.claim("held")
        await store.settle("done", End.DONE, status=204)
        await store.settle("dead", End.DEAD)
        await store.settle("silent", End.RETRY, status=None)
        views = await Deliveries(store.client).of_event(id)
        assert views is not None
        by_target = {view.target: view for view in views}
        assert list(by_target) == ["fresh", "later", "held", "done", "dead", "silent"]
        assert {name: view.state for name, view in by_target.items()} == {
            "fresh": "waiting",
            "later": "waiting",
            "held": "in-flight",
            "done": "done",
            "dead": "dead",
            "silent": "waiting",
        }
        assert by_target["later"].due_at is not None
        assert by_target["fresh"].due_at is not None
        assert by_target["later"].due_at > by_target["fresh"].due_at
        assert by_target["held"].leased_until is not None
        assert by_target["done"].due_at is None
        assert [view.failed for view in views] == [0, 1, 0, 0, 1, 1]
        assert [len(view.attempts) for view in views] == [0, 1, 0, 1, 1, 1]
        assert by_target["dead"].attempts[0].status == 500
        assert by_target["silent"].attempts[0].error == "timeout: no answer"
        unknown = event_id("trustshare", "1-0")
        assert await Deliveries(store.client).of_event(unknown) is None

    with_redis(redis_url, body)


def test_dead_letters_show_their_last_attempt_and_are_counted(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        ids = await store.events(3, "ledger", "crm")
        await store.settle("crm", End.DONE, status=200)
        await store.settle("ledger", End.RETRY, status=None)
        for id in ids:
            await store.client.redis.zadd(KEYS.due("ledger"), {id: 0})  # a minute later
        await store.settle("ledger", End.DEAD, status=503)
        letters_in_redis = DeadLetterList(store.client)
        assert await letters_in_redis.counts(["ledger", "crm"]) == {"ledger": 3, "crm": 0}
        letters = await letters_in_redis.listing(["ledger", "crm"], ALL, 2)
        assert len(letters) == 2
        for letter in letters:
            assert letter.last is not None
            assert (letter.target, letter.failed, letter.last.status) == ("ledger", 2, 503)
            assert (letter.source, letter.type) == ("trustshare", "payment.received")

    with_redis(redis_url, body)


# -- replay


def test_a_dead_letter_sent_again_starts_afresh_and_keeps_its_id(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [id] = await store.events(1, "ledger")
        await store.settle("ledger", End.DEAD)
        done = await replay(store, Selection(ALL, dead_letters_of="ledger"), ["ledger"])
        assert done.deliveries == {"ledger": 1}
        assert (await view_of(store, id)).deliveries == {"ledger": "waiting"}
        claims = await store.claim("ledger")
        [(claimed, event)] = claims.entries
        assert (claimed.event_id, claimed.failed, event.id) == (id, 0, id)
        assert await DeadLetterList(store.client).counts(["ledger"]) == {"ledger": 0}

    with_redis(redis_url, body)


def test_a_replay_rings_for_its_targets(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        await store.events(1, "ledger")
        await store.settle("ledger", End.DEAD)
        await replay(store, Selection(ALL, dead_letters_of="ledger"), ["ledger"])
        assert await store.client.redis.exists(KEYS.rung(Doorbell(DELIVER, "ledger").name))

    with_redis(redis_url, body)


def test_a_finished_event_sent_again_is_open_until_it_is_done_again(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        redis = store.client.redis
        [id] = await store.events(1, "ledger", "crm")
        for target in ("ledger", "crm"):
            await store.settle(target, End.DONE, status=200)
        assert await redis.zscore(KEYS.finished, id) == received_ms(id)
        done = await replay(store, Selection(ALL, events=(id,)), ["ledger", "crm"])
        assert done.deliveries == {"ledger": 1, "crm": 1}
        assert await redis.zscore(KEYS.finished, id) is None
        assert await redis.zscore(KEYS.open, id) == received_ms(id)
        for target in ("ledger", "crm"):
            await store.settle(target, End.DONE, status=200)
        assert await redis.zscore(KEYS.finished, id) == received_ms(id)
        assert await redis.hget(KEYS.event(id), "open") == b"0"

    with_redis(redis_url, body)


@pytest.mark.case(n=37)
def test_what_is_on_its_way_is_left_alone_and_a_replay_said_twice_sends_once(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        ids = await store.events(4, "ledger")
        await store.settle("ledger", End.DEAD, most=2)
        await store.claim("ledger", 1)
        selection = Selection(ALL, events=tuple(ids))
        plan = await Replays(store.client, ["ledger"]).plan(selection)
        assert (plan.deliveries, plan.waiting) == ({"ledger": 2}, 2)
        first = await replay(store, selection, ["ledger"])
        assert (first.total, first.waiting) == (2, 2)
        second = await replay(store, selection, ["ledger"])
        assert (second.total, second.waiting) == (0, 4)
        for id in ids:
            assert await store.client.redis.hget(KEYS.event(id), "open") == b"1"

    with_redis(redis_url, body)


def test_a_replay_goes_to_the_targets_that_are_still_configured(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        await store.events(2, "ledger", "retired")
        await store.settle("ledger", End.DONE, status=200)
        await store.settle("retired", End.DEAD)
        selection = Selection(ALL)
        plan = await Replays(store.client, ["ledger", "new"]).plan(selection)
        assert (plan.deliveries, plan.unserved) == ({"ledger": 2}, {"retired": 2})
        assert (await replay(store, selection, ["ledger", "new"])).deliveries == {"ledger": 2}

    with_redis(redis_url, body)


def test_a_replay_to_one_target_may_add_it_to_an_event(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [nowhere] = await store.events(1)
        [dead] = await store.receive(PAID)
        await store.admit("retired")
        await store.settle("retired", End.DEAD)
        to_new = Selection(ALL, events=(nowhere,), to="new")
        assert (await replay(store, to_new, ["new"])).deliveries == {"new": 1}
        others = Selection(ALL, dead_letters_of="retired", to="new")
        assert (await replay(store, others, ["new"])).deliveries == {"new": 1}
        assert await store.settle("new", End.DONE, status=200) == 2
        assert (await view_of(store, nowhere)).deliveries == {"new": "done"}
        # The dead letter stays one of the target that never got it.
        assert (await view_of(store, dead)).deliveries == {"retired": "dead", "new": "done"}
        assert await store.client.redis.zscore(KEYS.open, dead) is not None
        assert await store.client.redis.zscore(KEYS.finished, nowhere) is not None

    with_redis(redis_url, body)


def test_a_replay_by_time_source_and_type_takes_what_these_name(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [early] = await store.events(1, "ledger")
        await asyncio.sleep(0.002)
        [other] = await store.events(1, "ledger", source="other")
        [raised] = await store.receive({"type": "dispute_raised", "token": "tx-9"})
        await store.admit("ledger")
        await store.settle("ledger", End.DONE, status=200)
        replays = Replays(store.client, ["ledger"])

        async def planned(selection: Selection) -> int:
            return (await replays.plan(selection)).total

        assert await planned(Selection(ALL)) == 3
        assert await planned(Selection(Span(0, received_ms(early)))) == 1
        assert await planned(Selection(ALL, source="trustshare")) == 2
        assert await planned(Selection(ALL, source="trustshare", type="dispute.*")) == 1
        assert (await replay(store, Selection(ALL, type="dispute.*"), ["ledger"])).total == 1
        assert (await view_of(store, raised)).deliveries == {"ledger": "waiting"}
        assert (await view_of(store, other)).deliveries == {"ledger": "done"}

    with_redis(redis_url, body)


def test_thousands_of_dead_letters_are_sent_in_batches_each_once(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        count = 1800
        await store.events(count, "ledger")
        while await store.settle("ledger", End.DEAD):
            pass
        selection = Selection(ALL, dead_letters_of="ledger")
        assert (await Replays(store.client, ["ledger"]).plan(selection)).total == count
        assert (await replay(store, selection, ["ledger"])).total == count
        assert await store.client.redis.zcard(KEYS.due("ledger")) == count
        assert await store.client.redis.zcard(KEYS.dead("ledger")) == 0

    with_redis(redis_url, body)


@pytest.mark.case(n=37)
def test_a_replay_leaves_one_audit_entry_that_says_who_what_and_how_many(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        await store.events(2, "ledger")
        await store.settle("ledger", End.DEAD)
        await replay(store, Selection(ALL, dead_letters_of="ledger"), ["ledger"])
        entries: Any = await store.client.redis.xrange(KEYS.audit)
        [(_, entry)] = entries
        assert (entry[b"action"], entry[b"user"]) == (b"replay", b"operator")
        assert msgspec.json.decode(entry[b"selected"])["dead_letters_of"] == "ledger"
        assert msgspec.json.decode(entry[b"deliveries"]) == {"ledger": 2}

    with_redis(redis_url, body)


def test_a_delivery_that_fell_out_of_every_set_is_healed_by_a_replay(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        [id] = await store.events(1, "ledger")
        await store.client.redis.delete(KEYS.due("ledger"))
        await replay(store, Selection(ALL, events=(id,)), ["ledger"])
        await store.settle("ledger", End.DONE, status=200)
        assert await store.client.redis.zscore(KEYS.finished, id) is not None

    with_redis(redis_url, body)
