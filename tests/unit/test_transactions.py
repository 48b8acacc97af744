"""The timeline of a transaction: its order, its money, its status, and what is late."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.event.canonical import Money
from shared.event.ids import event_id
from shared.event.lifecycle import ANY, Lifecycle
from shared.event.timeline import Happened, Sum, Timeline, timeline
from shared.event.times import rfc3339_ms
from shared.event.types import STATUS_OF
from shared.providers import ADAPTERS
from shared.providers.trustap import LIFECYCLE as TRUSTAP
from shared.providers.trustist import LIFECYCLE as TRUSTIST
from shared.providers.trustshare import LIFECYCLE as TRUSTSHARE
from shared.providers.truust import LIFECYCLE as TRUUST

START_MS = 1_767_225_600_000
LIFECYCLES = {name: adapter.lifecycle for name, adapter in ADAPTERS.items()}
STATUSES = sorted({status for status in STATUS_OF.values() if status})


def gbp(amount_minor: int) -> Money:
    return Money(amount_minor, "GBP")


def minute(n: int) -> str:
    return f"2026-01-01T{n // 60:02}:{n % 60:02}:00Z"


def happened(second: int, type: str, **fields: Any) -> Happened:
    """An event of this type that came in at this second."""
    ms = START_MS + second * 1000
    return Happened(
        id=event_id("s", f"{ms}-0"),
        source="s",
        type=type,
        received_at=rfc3339_ms(ms),
        **{"status": STATUS_OF.get(type)} | fields,
    )


def arrived(*types: str, payment_id: str | None = None) -> list[Happened]:
    """Events of these types without times, in the order in which they came in."""
    return [happened(n, type, payment_id=payment_id) for n, type in enumerate(types)]


def late(found: Timeline) -> list[str]:
    return [step.event.type for step in found.steps if step.late]


def stood(found: Timeline) -> list[str | None]:
    return [step.stands for step in found.steps]


# -- the rules


@pytest.mark.parametrize("name", sorted(LIFECYCLES))
def test_every_status_that_a_provider_s_events_say_has_a_stage(name: str) -> None:
    lifecycle = LIFECYCLES[name]
    staged = frozenset().union(*lifecycle.stages)
    said = {STATUS_OF[type] for type in ADAPTERS[name].mapping.values() if not type.startswith("invitation.")}
    assert said - {None} <= staged
    assert lifecycle.final <= staged


@pytest.mark.parametrize("name", sorted(LIFECYCLES))
def test_an_end_can_be_reached_from_anywhere_and_left_for_no_place_but_another_end(name: str) -> None:
    lifecycle = LIFECYCLES[name]
    for status in STATUSES:
        for final in lifecycle.final:
            if status not in lifecycle.final:
                assert lifecycle.allows(status, final)
                assert not lifecycle.allows(final, status)


# -- each provider's ways


def test_trustshare_from_the_start_to_the_end() -> None:
    found = timeline(
        arrived(
            "transaction.initiated", "payment.pending", "payment.received", "dispute.raised",
            "dispute.resolved", "payment.paused", "payout.released", "transaction.completed",
        ),
        TRUSTSHARE,
    )  # fmt: skip
    assert stood(found) == [
        "open", "pending", "funded", "disputed", "resolved", "on_hold", "released", "completed"
    ]  # fmt: skip
    assert (found.status, found.final, late(found)) == ("completed", True, [])


def test_without_times_what_comes_after_its_turn_is_late_and_moves_nothing() -> None:
    found = timeline(
        arrived("transaction.initiated", "payout.released", "payment.received", payment_id="p"), TRUSTSHARE
    )
    assert stood(found) == ["open", "released", "released"]
    assert late(found) == ["payment.received"]
    found = timeline(arrived("transaction.completed", "payout.released", "dispute.raised"), TRUSTSHARE)
    assert (found.status, late(found)) == ("completed", ["payout.released", "dispute.raised"])


def test_what_came_in_one_millisecond_keeps_the_order_of_arrival() -> None:
    events = [
        Happened(
            id=event_id("s", f"{START_MS}-{n}"),
            source="s",
            type="payment.received",
            status="funded" if n % 2 else "on_hold",
            received_at=rfc3339_ms(START_MS),
        )
        for n in range(40)
    ]
    found = timeline(events[::-1], TRUSTSHARE)
    assert [step.event.id for step in found.steps] == [event.id for event in events]


def test_a_resolution_that_overtakes_its_dispute_settles_it() -> None:
    found = timeline(arrived("payment.received", "dispute.resolved", "dispute.raised"), TRUSTSHARE)
    assert (found.status, late(found)) == ("resolved", ["dispute.raised"])
    again = timeline(
        arrived("dispute.raised", "dispute.resolved", "dispute.raised", "dispute.resolved"), TRUSTSHARE
    )
    assert (stood(again), late(again)) == (["disputed", "resolved", "disputed", "resolved"], [])


def test_another_payment_of_a_transaction_is_not_late() -> None:
    events = [
        happened(0, "payment.received", payment_id="one", money=gbp(100)),
        happened(1, "payout.released", payment_id="one", money=gbp(100)),
        happened(2, "payment.received", payment_id="two", money=gbp(50)),
        happened(3, "payment.pending", payment_id="two", money=gbp(50)),
    ]
    found = timeline(events, TRUSTSHARE)
    assert late(found) == ["payment.pending"]
    assert (found.received, found.paid_out) == (Sum([gbp(150)]), Sum([gbp(100)]))


def test_a_trustist_payment_that_failed_may_be_paid_and_then_stays_paid() -> None:
    found = timeline(
        arrived("payment.pending", "payment.failed", "payment.completed", "payment.failed"), TRUSTIST
    )
    assert stood(found) == ["pending", "failed", "paid", "paid"]
    assert late(found) == ["payment.failed"]


def test_a_truust_order_that_failed_may_be_published_and_ends_released() -> None:
    found = timeline(
        arrived(
            "payment.failed", "payment.received", "payment.confirmed", "transaction.accepted",
            "payout.created", "payout.released", "payment.received",
        ),
        TRUUST,
    )  # fmt: skip
    assert stood(found) == [
        "failed", "funded", "funded", "accepted", "payout_pending", "released", "released"
    ]  # fmt: skip
    assert late(found) == ["payment.received"]


def test_trustap_is_ordered_by_when_things_occurred() -> None:
    events = [
        happened(0, "transaction.joined", time=minute(1)),
        happened(1, "payout.released", time=minute(9)),
        happened(2, "fulfilment.delivered", time="2026-01-01T00:07:00.5Z"),
        happened(3, "fulfilment.shipped", time="2026-01-01T00:07:00.123456789Z"),
        happened(4, "payment.received", time=minute(3)),
    ]
    found = timeline(events, TRUSTAP)
    assert stood(found) == ["open", "funded", "shipped", "delivered", "released"]
    assert late(found) == ["payment.received", "fulfilment.shipped", "fulfilment.delivered"]
    assert [step.occurred for step in found.steps] == [True] * 5


def test_a_review_that_is_finished_gives_back_the_status_before() -> None:
    events = [
        happened(n, type, time=minute(n))
        for n, type in enumerate(["payment.received", "payment.review_flagged", "payment.review_finished"])
    ]
    assert stood(timeline(events, TRUSTAP)) == ["funded", "in_review", "funded"]


def test_a_price_named_after_the_deposit_is_in_time_and_takes_nothing_back() -> None:
    events = [
        happened(0, "payment.received", time=minute(0)),
        happened(1, "transaction.priced", time=minute(1)),
    ]
    found = timeline(events, TRUSTAP)
    assert (found.status, late(found)) == ("funded", [])


def test_a_refund_may_follow_a_cancellation() -> None:
    events = [
        happened(0, "transaction.cancelled", time=minute(0)),
        happened(1, "payment.refunded", time=minute(1)),
        happened(2, "transaction.joined", time=minute(2)),
    ]
    found = timeline(events, TRUSTAP)
    assert (found.status, found.final, late(found)) == ("refunded", True, ["transaction.joined"])


def test_an_unknown_event_is_in_the_timeline_and_changes_nothing() -> None:
    events = [
        *arrived("payment.received"),
        happened(5, "provider.unknown", provider_event="payment_frozen"),
        happened(6, "invoice.paid", status="something of its own"),
    ]
    found = timeline(events, ANY)
    assert (stood(found), late(found)) == (["funded", "funded", "something of its own"], [])


def test_no_events_are_a_timeline_of_nothing() -> None:
    found = timeline([], ANY)
    assert (found.status, found.final, found.received, found.held, found.steps) == (
        None, False, Sum(), None, []
    )  # fmt: skip


# -- money


def test_a_payment_counts_once_however_often_its_status_is_said() -> None:
    said_twice = [happened(n, "payment.received", payment_id="p", money=gbp(999)) for n in range(2)]
    assert timeline(said_twice, TRUUST).received == Sum([gbp(999)])
    at_once = [happened(n, "payment.received", time=minute(1), money=gbp(5), copy_of="x") for n in range(2)]
    assert timeline(at_once, TRUSTAP).received == Sum([gbp(5)])
    two = [happened(n, "payment.received", time=minute(n), money=gbp(5)) for n in range(2)]
    assert timeline(two, TRUSTAP).received == Sum([gbp(10)])


def test_currencies_are_not_mixed_and_an_amount_that_is_not_said_is_counted() -> None:
    events = [
        happened(0, "payment.received", payment_id="a", money=gbp(1)),
        happened(1, "payment.received", payment_id="b", money=Money(2, "EUR")),
        happened(2, "payment.received", payment_id="c"),
    ]
    assert timeline(events, ANY).received == Sum([Money(2, "EUR"), gbp(1)], unsaid=1)


def test_trustap_s_refunds_and_releases_are_said_in_total() -> None:
    events = [
        happened(
            n, "payment.refunded", provider_event="basic_tx.funds_refunded", time=minute(n), money=gbp(m)
        )
        for n, m in enumerate([50, 80])
    ]
    assert timeline(events, TRUSTAP).refunded == Sum([gbp(80)])


def test_what_is_held_is_what_was_said_last_in_its_turn() -> None:
    events = [
        happened(0, "payment.received", payment_id="p", balance=gbp(100)),
        happened(1, "payout.released", payment_id="p", balance=gbp(0)),
        happened(2, "payment.pending", payment_id="p", balance=gbp(70)),
    ]
    found = timeline(events, TRUSTSHARE)
    assert (found.held, late(found)) == (gbp(0), ["payment.pending"])


# -- whatever comes, in whatever order

types = st.sampled_from(sorted(STATUS_OF))


@st.composite
def stories(draw: st.DrawFn, timed: bool | None) -> tuple[Lifecycle, list[Happened]]:
    """A provider's lifecycle, and events in order of arrival: all `timed`, none, or some (None)."""
    lifecycle = draw(st.sampled_from([LIFECYCLES[name] for name in sorted(LIFECYCLES)]))
    events = [
        happened(
            n,
            draw(types),
            time=minute(draw(st.integers(0, 9)))
            if (draw(st.booleans()) if timed is None else timed)
            else None,
            payment_id=draw(st.sampled_from([None, "a", "b"])),
            money=draw(st.none() | st.integers(0, 3).map(gbp)),
        )
        for n in range(draw(st.integers(1, 8)))
    ]
    return lifecycle, events


def rearrived(events: Sequence[Happened], order: Sequence[int]) -> list[Happened]:
    """The same happenings, come in in another order."""
    places = [(event.id, event.received_at) for event in events]
    return [
        Happened(**{name: getattr(events[n], name) for name in Happened.__struct_fields__}
                 | {"id": id, "received_at": received_at})
        for n, (id, received_at) in zip(order, places, strict=True)
    ]  # fmt: skip


any_story = st.sampled_from([True, False, None]).flatmap(stories)


@settings(max_examples=300, deadline=None)
@given(stories(timed=True), st.data())
def test_where_times_are_known_the_order_of_arrival_changes_nothing(
    story: tuple[Lifecycle, list[Happened]], data: st.DataObject
) -> None:
    lifecycle, events = story
    order = data.draw(st.permutations(range(len(events))))
    one, other = timeline(events, lifecycle), timeline(rearrived(events, order), lifecycle)
    assert (one.status, one.final) == (other.status, other.final)
    assert stood(one) == stood(other)
    assert [step.event.type for step in one.steps] == [step.event.type for step in other.steps]
    assert (one.received.unsaid, one.held) == (other.received.unsaid, other.held)


@settings(max_examples=300, deadline=None)
@given(any_story)
def test_a_transaction_that_has_ended_stays_ended_whatever_comes(
    story: tuple[Lifecycle, list[Happened]],
) -> None:
    lifecycle, events = story
    ended = False
    for n in range(len(events)):
        found = timeline(events[: n + 1], lifecycle)
        assert not ended or found.final
        ended = found.final
        after_the_end = False
        for step in found.steps:
            assert not after_the_end or step.stands in lifecycle.final
            after_the_end = after_the_end or step.stands in lifecycle.final


@settings(max_examples=200, deadline=None)
@given(any_story, st.randoms(use_true_random=False))
def test_every_event_is_shown_once_and_in_whatever_order_it_is_given(
    story: tuple[Lifecycle, list[Happened]], random: Any
) -> None:
    lifecycle, events = story
    found = timeline(events, lifecycle)
    assert sorted(step.event.id for step in found.steps) == sorted(event.id for event in events)
    assert timeline(random.sample(events, len(events)), lifecycle) == found
