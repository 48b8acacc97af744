"""What an adapter makes of a provider's request: the canonical event."""

from typing import Any

import msgspec


class Money(msgspec.Struct, frozen=True):
    """An amount in minor units (pence, cents, fils …) of an ISO 4217 currency, upper case."""

    amount_minor: int
    currency: str


class DedupeKey(msgspec.Struct, frozen=True):
    """What makes two requests the same event, within one source.

    `parts` identify it. `counts` and `raises` name counters of the source: the count that `counts`
    stands at becomes part of the key, and a new event raises the counter that `raises` names. So a
    second dispute on one transaction, which looks exactly like a re-send of the first, is told apart
    by the resolution that came between. That holds only in their order: an adapter whose keys count is
    `in_turn`. And since a provider may send both once more, a request with the very bytes of one that came
    less than the source's `resend_window` before is a copy of it, whatever the count.
    """

    parts: tuple[str, ...]
    counts: str | None = None
    raises: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter makes of a provider's request. Text is the provider's own; times are RFC 3339.

    `details` holds JSON-ready values. `dedupe` is None if the body lacks an identifying field: the
    SHA-256 of the raw body then stands in, so that two real events never collapse into one. `status` is
    for a type outside the table of canonical ones; a type of the table says its status itself.
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
