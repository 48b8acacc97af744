"""What an adapter makes of a provider's request: the canonical event."""

from typing import Any

import msgspec


class Money(msgspec.Struct, frozen=True):
    """An amount in minor units (pence, cents, fils …) of an ISO 4217 currency, upper case."""

    amount_minor: int
    currency: str


class DedupeKey(msgspec.Struct, frozen=True):
    """What makes two requests the same event, within one source.

    `parts` identify it. `counts` and `raises` name counters of the source: the present value of the counter
    `counts` is part of the key, and a new event raises the counter `raises` by one. So a second dispute on
    one transaction, which looks exactly like a re-send of the first, differs from it by the resolution that
    came between. That works only if events are read in their order, so an adapter whose keys count sets
    `in_turn`. A provider may send both events again. So a request with the same bytes as one that came less
    than the source's `resend_window` before is a copy of it, whatever the counter says.
    """

    parts: tuple[str, ...]
    counts: str | None = None
    raises: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter makes of a provider's request. Text is the provider's own; times are RFC 3339.

    `details` holds JSON-ready values. `dedupe` is None if the body lacks an identifying field: then the
    SHA-256 of the raw body is used, so that two different events are never taken for one. `status` is only
    for a type outside the table of canonical ones: in the table, the type gives the status.
    """

    type: str
    provider_event: str | None
    subject: str | None = None
    time: str | None = None
    occurred_at: str | None = None
    type_inferred: bool = False
    transaction_id: str | None = None
    payment_id: str | None = None
    parties: dict[str, str] = {}
    money: Money | None = None
    status: str | None = None
    provider_status: str | None = None
    details: dict[str, Any] = {}
    dedupe: DedupeKey | None = None
