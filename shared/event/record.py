"""An event as it is stored, in three pieces: the provider's bytes are neither written anew nor kept twice.

`attributes` is a JSON object, the CloudEvents context attributes; `data` is a JSON object, the canonical data
without `original`; `body` is the provider's own bytes, checked to be JSON.
"""

from typing import Any

import msgspec

from shared.event.canonical import Event, Money
from shared.event.times import rfc3339_ms
from shared.event.types import STATUS_OF

JSON = "application/json"


class EventRecord(msgspec.Struct, frozen=True):
    """An event as it is stored and sent: the pieces that this module's docstring names."""

    id: str
    attributes: bytes
    data: bytes
    body: bytes
    content_type: str = JSON

    @property
    def source(self) -> str:
        """The name of the source that it came from."""
        return _SOURCE.decode(self.attributes).source.removeprefix(SOURCE_PREFIX)

    @property
    def provider(self) -> str:
        """The provider of that source."""
        return _PROVIDER.decode(self.data).provider


class _Source(msgspec.Struct):
    source: str


class _Provider(msgspec.Struct):
    provider: str


SOURCE_PREFIX = "/sources/"
_SOURCE = msgspec.json.Decoder(_Source)
_PROVIDER = msgspec.json.Decoder(_Provider)


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
    """The canonical `data` without `original`."""

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


class Shown(msgspec.Struct, frozen=True):
    """The part of an event's `data` that names nobody."""

    provider: str
    provider_event: str | None = None
    transaction_id: str | None = None
    payment_id: str | None = None
    money: Money | None = None
    status: str | None = None
    provider_status: str | None = None
    occurred_at: str | None = None


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
