"""Requests, events and deliveries as operators are shown them, made from their records.

Nothing here decodes a provider's payload, nor the part of an event that may name people.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.archive.letter import ENDED
from shared.event.canonical import Money
from shared.event.ids import received_ms
from shared.event.record import Shown
from shared.event.times import rfc3339_ms
from shared.store.context import read_context
from shared.store.due import Attempt
from shared.store.why import Why

WAITING = "waiting"
IN_FLIGHT = "in-flight"
ENDS = ("done", "dead", "expired", "discarded", ENDED)
ON_DISK = "disk"
HELD = "held"
UNMATCHED = "unmatched"
STATES = (WAITING, HELD, *ENDS, UNMATCHED)
"""The states by which events are listed: that of a delivery, or `unmatched`: it went to no target.

A `held` delivery is `waiting`, too: behind a dead letter of its transaction, in an ordered target.
"""


class Kept(msgspec.Struct, frozen=True, kw_only=True, tag_field="state"):
    """A request that was answered 200, as it is kept. `id` is the receipt; times are RFC 3339."""

    id: str
    received_at: str
    source: str


class EventView(Kept, frozen=True, kw_only=True, tag="admitted"):
    """An admitted event. `deliveries`: target → `waiting` (due or in flight), or how it ended.

    `held`: target → the dead letter of the same transaction behind which the event waits for that target.
    `copies` is how many re-sends were suppressed, `differing` how many of them had another body; `copy_of`
    is the event that this one was a suppressed copy of, until an operator admitted it. `details` and
    `parties`, which may name people, are left to `Records.payload`.
    """

    type: str
    provider: str
    provider_event: str | None
    transaction_id: str | None
    payment_id: str | None
    money: Money | None
    status: str | None
    provider_status: str | None
    occurred_at: str | None
    deliveries: dict[str, str]
    held: dict[str, str]
    copies: int
    differing: int
    copy_of: str | None

    def state_for(self, target: str, state: str) -> bool:
        """Tell whether the delivery to a target, one of the event's, is in this state."""
        return target in self.held if state == HELD else self.deliveries[target] == state

    def is_in(self, state: str) -> bool:
        """Tell whether one of its deliveries is in this state; for `unmatched`, whether it has none."""
        if state == HELD:
            return bool(self.held)
        return state in self.deliveries.values() if state != UNMATCHED else not self.deliveries


class CopyView(Kept, frozen=True, kw_only=True, tag="duplicate"):
    """A recorded duplicate of the event `of`. `identical`: its body was the same, byte for byte.

    None if the first was gone already when its copy came.
    """

    of: str
    identical: bool | None


class QuarantineView(Kept, frozen=True, kw_only=True, tag="quarantined"):
    """A request that no adapter could read: `code` is a short word, `detail` names the field and the rule."""

    code: str
    detail: str
    bytes: int


class InboxView(Kept, frozen=True, kw_only=True, tag="inbox"):
    """A request that no worker has admitted yet. `takes_alone` counts takes after a worker's death."""

    bytes: int
    takes_alone: int


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt. `status` is None if no answer came: `error` says why. `answer` is there only if it was
    asked for.

    `resent`: it was sent twice, as a kept connection closed before an answer began.
    """

    at: str
    n: int
    duration_ms: float
    status: int | None
    error: str
    answer: str | None
    resent: bool = False


class DeliveryView(msgspec.Struct, frozen=True):
    """One event for one target.

    `state`: `waiting` (to be sent at `due_at`), `in-flight` (a worker holds it until `leased_until` at most),
    `done`, `dead`, `expired` (a dead letter past its retention), `discarded`, or `ended` (it is not known
    how: the event has left Redis, and only another target's dead letter on disk names this delivery).
    `failed` counts the attempts of the present schedule, which a replay starts anew; `attempts` holds those
    of all schedules, oldest first. `why` says what it waits for, or why it was given up; None if it is in
    flight or done.
    """

    target: str
    state: str
    failed: int
    due_at: str | None
    leased_until: str | None
    attempts: list[AttemptView]
    why: Why | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was given up at `died_at` after `failed` attempts; `last` is the latest of them.

    `on_disk`: it was moved to the disk, and is no longer in Redis.
    """

    id: str
    target: str
    died_at: str
    source: str
    type: str
    failed: int
    last: AttemptView | None
    why: Why
    on_disk: bool = False


HEAD = ["attributes", "targets", "copies", "differing", "copy_of", "ordered", "transaction"]
COPY = ["source", "of", "differs"]
QUARANTINED = ["source", "code", "detail"]


_shown = msgspec.json.Decoder(Shown).decode


def event_view(
    id: str,
    head: Sequence[Any],
    data: bytes,
    ends: Mapping[str, bytes | str | None],
    held: dict[str, str],
) -> EventView:
    """Return an event as it is shown: `head` is HEAD of its record, or the first five of that."""
    context, shown = read_context(head[0]), _shown(data)
    return EventView(
        id=id,
        received_at=_received_at(id),
        source=context.source_name,
        type=context.type,
        deliveries={target: _state(end) for target, end in ends.items()},
        held=held,
        copies=int(head[2] or 0),
        differing=int(head[3] or 0),
        copy_of=head[4].decode() if head[4] else None,
        **{name: getattr(shown, name) for name in Shown.__struct_fields__},
    )


def _state(end: bytes | str | None) -> str:
    return state_of(end.decode() if isinstance(end, bytes) else end) if end else WAITING


def read_attempt(value: bytes) -> Attempt:
    """Return an attempt from its JSON."""
    return msgspec.json.decode(value, type=Attempt)


def state_of(end: str) -> str:
    """Return the state of a delivery that has ended. A dead letter on the disk is `dead`, as one in Redis."""
    return "dead" if end == ON_DISK else end


def attempt_view(attempt: Attempt, *, answers: bool) -> AttemptView:
    """Return an attempt as it is shown."""
    return AttemptView(
        at=rfc3339_ms(attempt.at_ms),
        n=attempt.n,
        duration_ms=attempt.duration_ms,
        status=attempt.status,
        error=attempt.error,
        answer=attempt.answer if answers else None,
        resent=attempt.resent,
    )


def copy_view(id: str, found: Sequence[Any], *, own_body: bool) -> CopyView:
    """Return a duplicate as it is shown: `found` is COPY of its record; `own_body`: it has a body."""
    source, of, differs = found
    identical = None if own_body and not differs else not differs
    return CopyView(
        id=id, received_at=_received_at(id), source=source.decode(), of=of.decode(), identical=identical
    )


def quarantine_view(id: str, found: Sequence[Any], size: int) -> QuarantineView:
    """Return a quarantined request as it is shown: `found` is QUARANTINED of its record."""
    source, code, detail = (value.decode() for value in found)
    return QuarantineView(
        id=id, received_at=_received_at(id), source=source, code=code, detail=detail, bytes=size
    )


def inbox_view(id: str, source: str, *, bytes: int, takes_alone: int) -> InboxView:
    """Return a request that waits in an inbox as it is shown."""
    return InboxView(id=id, received_at=_received_at(id), source=source, bytes=bytes, takes_alone=takes_alone)


def _received_at(id: str) -> str:
    return rfc3339_ms(received_ms(id))
