"""A transaction's timeline, computed from its events: what happened when, the money, and the present status.

Events are ordered by when they occurred, if the provider says so, else by when they came in. The status
changes only as the provider's lifecycle allows, so a late event never moves a final status back.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shared.event.canonical import Money
from shared.event.lifecycle import Lifecycle

RECEIVED = frozenset({"payment.received", "payment.completed"})
PAID_OUT = frozenset({"payout.released"})
REFUNDED = frozenset({"payment.refunded"})


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of an event that a timeline needs. `time` is in UTC, and None if it is not known.

    `copy_of`: it is a copy of that event, which an operator has admitted as an event of its own.
    """

    id: str
    source: str
    type: str
    received_at: str
    time: str | None = None
    provider_event: str | None = None
    payment_id: str | None = None
    money: Money | None = None
    status: str | None = None
    provider_status: str | None = None
    balance: Money | None = None
    copies: int = 0
    differing: int = 0
    copy_of: str | None = None


class TimelineStep(msgspec.Struct, frozen=True, kw_only=True):
    """An event's place in a timeline.

    `at` is when it happened: when it `occurred`, or else when it came in. `stands` is the transaction's
    status from then on. `late`: it came after an event that it should precede.
    """

    at: str
    occurred: bool
    late: bool
    stands: str | None
    event: Happened


class Sum(msgspec.Struct, frozen=True):
    """Money of one kind, by currency. `unsaid` counts the payments without an amount."""

    amounts: list[Money] = []
    unsaid: int = 0


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a transaction. `held` is the money in escrow, if the provider says so; else None."""

    status: str | None
    final: bool
    received: Sum
    paid_out: Sum
    refunded: Sum
    held: Money | None
    steps: list[TimelineStep]


def timeline(events: Iterable[Happened], lifecycle: Lifecycle) -> Timeline:
    """Return the timeline of one transaction's events, given in any order."""
    arrived = sorted(events, key=_arrival)
    overtaken = _overtaken(arrived)
    walk = _Walk(lifecycle)
    steps = []
    for event in sorted(arrived, key=lambda event: _order(event, lifecycle)):
        late = walk.take(event) or event.id in overtaken
        steps.append(
            TimelineStep(
                at=event.time or event.received_at,
                occurred=event.time is not None,
                late=late,
                stands=walk.status,
                event=event,
            )
        )
    in_order = [step.event for step in steps]
    balances = [step.event.balance for step in steps if step.event.balance is not None and not step.late]
    return Timeline(
        status=walk.status,
        final=walk.status in lifecycle.final,
        received=_sum(in_order, RECEIVED, lifecycle),
        paid_out=_sum(in_order, PAID_OUT, lifecycle),
        refunded=_sum(in_order, REFUNDED, lifecycle),
        held=balances[-1] if balances else None,
        steps=steps,
    )


class _Walk:
    """Goes through the events in order and keeps the status."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.status: str | None = None
        self._lifecycle = lifecycle
        self._before: str | None = None
        self._of_payment: dict[str, str] = {}
        self._unanswered: Counter[str] = Counter()  # below zero: that many answers came first

    def take(self, event: Happened) -> bool:
        """Apply an event. Returns whether it is late, judged by the order of statuses."""
        status = event.status
        if status is None:
            if self.status is not None and self._lifecycle.restores.get(event.type) == self.status:
                self.status = self._before
            return False
        answered = self._answered(status)
        # An event with a time is in its place. Of the others, only the statuses tell.
        in_turn = event.time is not None or (not answered and self._follows(event, status))
        if in_turn and self._lifecycle.allows(self.status, status):
            if status != self.status:
                self._before, self.status = self.status, status
            return False
        return not in_turn or self.status in self._lifecycle.final

    def _answered(self, status: str) -> bool:
        """Tell whether a status was answered before it came, as a dispute whose resolution overtook it."""
        answers = self._lifecycle.answers
        if status in answers:
            self._unanswered[answers[status]] -= 1
        elif status in answers.values():
            self._unanswered[status] += 1
            return self._unanswered[status] <= 0
        return False

    def _follows(self, event: Happened, status: str) -> bool:
        now = self.status
        if self._lifecycle.many_payments and event.payment_id is not None:
            if self._of_payment:  # another payment's status says nothing about this one
                now = self._of_payment.get(event.payment_id)
            if self._lifecycle.allows(now, status):
                self._of_payment[event.payment_id] = status
        # A final status ends all payments of the transaction.
        ended = self.status in self._lifecycle.final and not self._lifecycle.allows(self.status, status)
        return not ended and self._lifecycle.allows(now, status)


def _instant(time: str) -> str:
    """Return a time in UTC in a form that sorts: with nine digits of fraction."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}"


def _arrival(event: Happened) -> tuple[str, int, str]:
    # Within a millisecond, the end of an id counts up, in hex without leading zeros.
    return event.received_at, len(event.id), event.id


def _order(event: Happened, lifecycle: Lifecycle) -> tuple[Any, ...]:
    # If the times are known, the order of arrival does not count: the same times give the same timeline.
    return (
        _instant(event.time or event.received_at),
        () if event.time is not None else _arrival(event),
        lifecycle.stage(event.status),
        event.type,
        event.provider_event or "",
        event.payment_id or "",
        event.id,
    )


def _overtaken(arrived: Sequence[Happened]) -> set[str]:
    """Return the ids of events that came in after an event that occurred later."""
    late = set()
    latest = ""
    for event in arrived:
        if event.time is not None:
            instant = _instant(event.time)
            if instant < latest:
                late.add(event.id)
            latest = max(latest, instant)
    return late


def _sum(events: Iterable[Happened], types: frozenset[str], lifecycle: Lifecycle) -> Sum:
    """Return the money of the events of these types, counting each payment once.

    Two events are of one payment if they name the same payment. If they name none, they are if their times
    are equal: so it is if a provider repeats a status, or an operator admitted a copy.
    """
    payments: dict[tuple[str | None, ...], Money | None] = {}
    totals: dict[str, int] = {}
    for event in events:
        if event.type not in types:
            continue
        if event.money is not None and event.provider_event in lifecycle.running_totals:
            currency = event.money.currency
            totals[currency] = max(totals.get(currency, 0), event.money.amount_minor)
            continue
        named = (event.payment_id,) if event.payment_id is not None else (event.provider_event, event.time)
        payment = named if event.payment_id or event.time else (None, None, event.id)
        payments[payment] = event.money or payments.get(payment)
    sums: Counter[str] = Counter()
    for money in payments.values():
        if money is not None:
            sums[money.currency] += money.amount_minor
    # A running total, if there is one, includes the amounts of the single events.
    amounts = {currency: max(sums.get(currency, 0), totals.get(currency, 0)) for currency in {*sums, *totals}}
    return Sum(
        [Money(amounts[currency], currency) for currency in sorted(amounts)],
        sum(money is None for money in payments.values()),
    )
