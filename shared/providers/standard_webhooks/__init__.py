"""Any sender that signs by Standard Webhooks (Svix, another Headrace …). The source's keys say how to read
it.

A source's expressions, in CEL, find the event's type, ids, money, status and time. They see `body`, the JSON,
and `id`, the `webhook-id`. An absent field gives null. Money stays exact: expressions see a number with a
fraction as its text, and a result that went through a float is refused.

Source: the Standard Webhooks specification (headers, payload structure); Svix's `svix-*` header names.
"""

import re
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from msgspec import field

from shared.delivery import signing
from shared.errors import NotVerified, Unreadable
from shared.event import jsonbody, money
from shared.event.canonical import DedupeKey, Event, Money
from shared.event.expressions import Expression, Scope
from shared.event.jsonbody import Number
from shared.event.times import to_utc
from shared.event.types import TYPE, UNKNOWN
from shared.providers.base import (
    BODY_DECIDES,
    Adapter,
    HeadVerdict,
    InboundRequest,
    RawEvent,
    RequestHead,
    Verdict,
)
from shared.providers.credentials import check_no_path_token, one_header
from shared.providers.fields import identifier, name
from shared.secrets import Secret
from shared.settings import SourceSettings

if TYPE_CHECKING:
    from cel import Context

ID_HEADERS = ("webhook-id", "svix-id")

_PREFIXES = (b"webhook-", b"svix-")
_PARTS = (b"id", b"timestamp", b"signature")
_ID = re.compile(rb"[!-~]{1,256}")
_TIMESTAMP = re.compile(rb"[1-9][0-9]{0,10}")
_INTEGER = re.compile(r"-?[0-9]{1,40}")
_LAST_SECOND = 253402300799  # of the year 9999


class BodyExpression(Expression):
    """An expression over a request."""

    names = {"body": {}, "id": ""}  # noqa: RUF012 — a constant, as the base class declares it


class Settings(SourceSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A source that signs by Standard Webhooks. Any of `secrets` (`whsec_…`) is accepted.

    All others are expressions. `type` gives the canonical type, and `provider_event` the sender's own word
    for it. `amount` is in major units (pounds) or `amount_minor` in minor ones (pence): text or integers.
    `status` becomes the provider's status, and the canonical one if the type is not in the table of
    canonical types. `time` is RFC 3339 text, or an integer of seconds since 1970.
    """

    secrets: tuple[Secret, ...]
    type: BodyExpression = field(default_factory=lambda: BodyExpression("body.type"))
    provider_event: BodyExpression = field(default_factory=lambda: BodyExpression("body.type"))
    transaction: BodyExpression | None = None
    payment: BodyExpression | None = None
    amount: BodyExpression | None = None
    amount_minor: BodyExpression | None = None
    currency: BodyExpression | None = None
    status: BodyExpression | None = None
    time: BodyExpression | None = field(default_factory=lambda: BodyExpression("body.timestamp"))

    def __post_init__(self) -> None:
        """Refuse secrets that are not signing secrets, and amounts without a currency."""
        for secret in self.secrets:
            if not secret.reveal().startswith(signing.SYMMETRIC):
                # A private key (`whsk_`) is for signing, and a source verifies.
                raise ValueError("`secrets`: one must start with whsec_, the secret that the sender showed")
            try:
                signing.signing_key(secret)
            except ValueError as error:
                raise ValueError(f"`secrets`: one {error}") from None
        if self.amount is not None and self.amount_minor is not None:
            raise ValueError("`amount` and `amount_minor` exclude each other: the same money in other units")
        if (self.amount or self.amount_minor) is not None and self.currency is None:
            raise ValueError("`currency` is missing beside an amount (a fixed one is written \"'GBP'\")")


class StandardWebhooks(Adapter[Settings]):
    """Reads webhooks signed by Standard Webhooks."""

    provider = "standard-webhooks"
    Settings: ClassVar[type[SourceSettings]] = Settings
    kept_headers = tuple(header.encode() for header in ID_HEADERS)
    names_own_types = True
    transactions_per_source = True

    @cached_property
    def _keys(self) -> list[signing.SigningKey]:
        return [signing.signing_key(secret) for secret in self.settings.secrets]

    @cached_property
    def _scope(self) -> Scope:
        values = (getattr(self.settings, field) for field in self.settings.__struct_fields__)
        return Scope(value for value in values if isinstance(value, Expression))

    def verify_head(self, head: RequestHead) -> HeadVerdict:
        """Check that the three headers are there and the timestamp is within five minutes."""
        _signed(head)
        return BODY_DECIDES

    def verify(self, request: InboundRequest) -> Verdict:
        """Check id, timestamp and signatures against the raw body; five minutes of tolerance."""
        id, timestamp, signatures = _signed(request)
        if not signing.verify(self._keys, id, timestamp, request.body, signatures, now=request.received_at):
            raise NotVerified("no signature holds")
        return Verdict.STORE

    def normalise(self, raw: RawEvent) -> Event:
        """Read one event by the source's expressions. Its identity is the `webhook-id`."""
        settings = self.settings
        id = next((raw.headers[header] for header in ID_HEADERS if header in raw.headers), None)
        context = self._scope.context(body=jsonbody.read(raw.body, raw.max_depth), id=id)
        type = _text(settings.type, context)
        known = type is not None and TYPE.fullmatch(type) is not None
        transaction = _text(settings.transaction, context)
        status = _text(settings.status, context)
        occurred_at, time = _time(settings.time, context)
        return Event(
            type=type if type is not None and known else UNKNOWN,
            provider_event=_text(settings.provider_event, context),
            subject=transaction,
            time=time,
            occurred_at=occurred_at,
            transaction_id=transaction,
            payment_id=_text(settings.payment, context),
            money=self._money(context) if known else None,
            status=status,
            provider_status=status,
            dedupe=DedupeKey((id,)) if id else None,
        )

    def credential_headers(self, body: bytes, *, id: str, now: float) -> list[tuple[str, str]]:
        """Return the three headers, signed with the first configured secret."""
        signature = signing.sign(self._keys[:1], id, int(now), body)
        return [
            ("webhook-id", id),
            ("webhook-timestamp", str(int(now))),
            ("webhook-signature", signature.decode()),
        ]

    def _money(self, context: "Context") -> Money | None:
        minor = self.settings.amount_minor
        expression = minor or self.settings.amount
        amount = expression.find(context) if expression is not None else None
        if amount is None:
            return None
        if isinstance(amount, bool) or not isinstance(amount, int | str):
            raise Unreadable("bad-amount", "the amount's expression gave neither text nor an integer")
        currency = _text(self.settings.currency, context)
        if minor is None:
            return money.from_major(amount, currency)
        if isinstance(amount, str) and _INTEGER.fullmatch(amount):
            amount = int(amount)
        return money.from_minor(Number(amount) if isinstance(amount, str) else amount, currency)


def _signed(head: RequestHead) -> tuple[str, int, bytes]:
    """Return the id, the timestamp and the signatures that a head carries.

    If a request has one `webhook-` header it must have all three, and its `svix-` ones are not read.

    Raises: NoSuchSource; NotVerified if one is missing or malformed, or the timestamp is off.
    """
    check_no_path_token(head)
    sent = {header for header, _ in head.headers}
    prefix = next((p for p in _PREFIXES if any(p + part in sent for part in _PARTS)), _PREFIXES[0])
    id, timestamp, signatures = (one_header(head, prefix + part) for part in _PARTS)
    if id is None or timestamp is None or signatures is None:
        raise NotVerified("a Standard Webhooks header is missing")
    if not _ID.fullmatch(id) or not _TIMESTAMP.fullmatch(timestamp):
        raise NotVerified("a Standard Webhooks header is malformed")
    if not signing.in_time(int(timestamp), now=head.received_at):
        raise NotVerified("the timestamp is off")
    return id.decode(), int(timestamp), signatures


def _text(expression: Expression | None, context: "Context") -> str | None:
    """Return the name or integer that an expression finds, as text; None for any other value."""
    found = expression.find(context) if expression is not None else None
    return identifier({"": found}, "") if isinstance(found, int | str) else None


def _time(expression: Expression | None, context: "Context") -> tuple[str | None, str | None]:
    """Return the time as the sender wrote it, and in UTC."""
    found = expression.find(context) if expression is not None else None
    if isinstance(found, int) and not isinstance(found, bool):
        if not 0 <= found <= _LAST_SECOND:
            return str(found), None
        return str(found), to_utc(f"{datetime.fromtimestamp(found, UTC):%Y-%m-%dT%H:%M:%S}Z")
    text = name({"": found}, "") if isinstance(found, str) else None
    return text, to_utc(text)


ADAPTER = StandardWebhooks
