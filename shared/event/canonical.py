"""The canonical event, and the forms in which it leaves: CloudEvents 1.0 and its relatives.

An event is kept in three pieces, so that the provider's bytes are never re-serialised and never
kept twice: `attributes` (a JSON object: the CloudEvents context attributes), `data` (a JSON object:
the canonical data without `original`) and `body` (the provider's own bytes, checked to be JSON).
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

JSON = "application/json"

HANDSHAKE = "source.handshake"
UNKNOWN = "provider.unknown"

TEST_PROVIDER, TEST_TYPE = "headrace", "headrace.test"
"""What `headrace targets test` sends: no provider's event, and in no table of types."""

STATUS_OF: dict[str, str | None] = {
    "transaction.initiated": "open",
    "transaction.joined": "open",
    "transaction.claimed": None,
    "transaction.accepted": "accepted",
    "transaction.rejected": "rejected",
    "transaction.cancelled": "cancelled",
    "transaction.abandoned": "cancelled",
    "transaction.priced": "open",
    "transaction.completed": "completed",
    "payment.pending": "pending",
    "payment.received": "funded",
    "payment.confirmed": None,
    "payment.completed": "paid",
    "payment.failed": "failed",
    "payment.accepted": "funded",
    "payment.skipped": None,
    "payment.review_flagged": "in_review",
    "payment.review_finished": None,
    "payment.paused": "on_hold",
    "payment.refund_issued": None,
    "payment.refunded": "refunded",
    "payout.created": "payout_pending",
    "payout.released": "released",
    "fulfilment.deadline_extended": None,
    "fulfilment.shipped": "shipped",
    "fulfilment.delivered": "delivered",
    "fulfilment.handover_confirmed": None,
    "dispute.raised": "disputed",
    "dispute.window_closed": None,
    "dispute.resolved": "resolved",
    "invitation.opened": "opened",
    "invitation.completed": "completed",
    HANDSHAKE: None,
    UNKNOWN: None,
}
"""Every canonical type, and the canonical status it puts its transaction in (None: it says nothing)."""


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

    `details` holds JSON-ready values. `dedupe` is None where the body lacks an identifying field: the
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


class EventRecord(msgspec.Struct, frozen=True):
    """An event as it is stored and sent: the three pieces that this module's docstring names."""

    id: str
    attributes: bytes
    data: bytes
    body: bytes
    content_type: str = JSON

    @property
    def source(self) -> str:
        """The name of the source that it came from."""
        return _SOURCE.decode(self.attributes).source.removeprefix(SOURCE_PREFIX)


class _Source(msgspec.Struct):
    source: str


SOURCE_PREFIX = "/sources/"
_SOURCE = msgspec.json.Decoder(_Source)


class Attributes(msgspec.Struct, frozen=True, omit_defaults=True):
    """CloudEvents 1.0 context attributes, in the order in which they are written."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    receivedat: str | None = None
    typeinferred: bool = False
    datacontenttype: str | None = None


class Data(msgspec.Struct, frozen=True):
    """The canonical `data`, all but `original`."""

    provider: str
    provider_event: str | None
    transaction_id: str | None
    payment_id: str | None
    parties: dict[str, str]
    money: Money | None
    status: str | None
    provider_status: str | None
    occurred_at: str | None
    details: dict[str, Any]


def attributes_of(event: Event, *, id: str, source: str, received_ms: int) -> Attributes:
    """Return the context attributes of an event of a source."""
    return Attributes(
        specversion="1.0",
        id=id,
        source=SOURCE_PREFIX + source,
        type=event.type,
        subject=event.subject if event.subject is not None else event.transaction_id,
        time=event.time,
        receivedat=rfc3339_ms(received_ms),
        typeinferred=event.type_inferred,
        datacontenttype=JSON,
    )


def data_of(event: Event, *, provider: str) -> Data:
    """Return the canonical data of an event of a provider."""
    return Data(
        provider=provider,
        provider_event=event.provider_event,
        transaction_id=event.transaction_id,
        payment_id=event.payment_id,
        parties=event.parties,
        money=event.money,
        status=STATUS_OF.get(event.type, event.status),
        provider_status=event.provider_status,
        occurred_at=event.occurred_at,
        details=event.details,
    )


def filter_context(attributes: Attributes, data: Data) -> dict[str, Any]:
    """Return what a target's filter sees: the event as it is delivered, without `data.original`."""
    context: dict[str, Any] = msgspec.to_builtins(attributes)
    context["data"] = msgspec.to_builtins(data)
    return context


def compose(record: EventRecord, format: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the headers and the body of a delivery in one of the four forms.

    The provider's bytes are set into the envelope as they are. Source: CloudEvents 1.0, HTTP binding
    (structured and binary mode); Standard Webhooks, payload structure.
    """
    if format == "raw":
        return [(b"content-type", record.content_type.encode("latin-1", "replace"))], record.body
    data = record.data[:-1] + b',"original":' + record.body + b"}"
    if format == "cloudevents":
        return [(b"content-type", b"application/cloudevents+json")], (
            record.attributes[:-1] + b',"data":' + data + b"}"
        )
    attributes = msgspec.json.decode(record.attributes, type=dict[str, str | bool])
    if format == "standard":
        # `timestamp` is when the event occurred; where the provider does not say, when it came in.
        timestamp = attributes.get("time") or attributes["receivedat"]
        head = {"type": attributes["type"], "timestamp": timestamp}
        return [(b"content-type", b"application/json")], (
            msgspec.json.encode(head)[:-1] + b',"data":' + data + b"}"
        )
    headers = [
        (b"ce-" + name.encode(), _header_value(value))
        for name, value in attributes.items()
        if name != "datacontenttype"
    ]
    return [(b"content-type", JSON.encode()), *headers], data


def _header_value(value: str | bool) -> bytes:
    """Percent-encode what a header cannot hold. Source: CloudEvents 1.0, HTTP binding, 3.1.3.2."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return "".join(
        char if "!" <= char <= "~" and char not in '"%' else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in value
    ).encode()


def rfc3339_ms(epoch_ms: int) -> str:
    """Return `2026-03-02T10:01:44.123Z` for milliseconds since 1970 in UTC."""
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{_rfc3339(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=64)
def _rfc3339(epoch_s: int) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%dT%H:%M:%S}"
