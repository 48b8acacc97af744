"""trustshare: a shared secret in a header; a `type` names the event; no event id and no time.

Source: trustshare's webhooks page; the `wh_evt_` form is its newer API's.
"""

import re
from typing import ClassVar

from shared.errors import NotVerified
from shared.event import jsonbody, money
from shared.event.canonical import DedupeKey, Event, Money
from shared.event.jsonbody import Json
from shared.event.lifecycle import Lifecycle, stages
from shared.event.types import UNKNOWN
from shared.providers.base import (
    PROVEN,
    Adapter,
    HeadVerdict,
    InboundRequest,
    RawEvent,
    RequestHead,
    Verdict,
)
from shared.providers.credentials import check_header, check_no_path_token
from shared.providers.fields import dedupe_key, identifier, members, name, present, text
from shared.secrets import Secret
from shared.settings import SourceSettings

TYPES: dict[str, str] = {
    "transaction_initiated": "transaction.initiated",
    "transaction_complete": "transaction.completed",
    "transaction_abandoned": "transaction.abandoned",
    "payment_received": "payment.received",
    "payment_released": "payout.released",
    "payment_returned": "payment.refunded",
    "payment_settling": "payment.pending",
    "payment_paused": "payment.paused",
    "dispute_raised": "dispute.raised",
    "dispute_resolved": "dispute.resolved",
    "handshake": "source.handshake",
}
"""trustshare's `type` → canonical type."""

KEY_FIELDS: dict[str, tuple[str, ...]] = {
    "transaction_initiated": ("token",),
    "transaction_complete": ("token",),
    "transaction_abandoned": ("token",),
    "payment_received": ("paymentToken",),
    "payment_released": ("paymentToken",),
    "payment_returned": ("paymentToken",),
    "payment_settling": ("paymentToken",),
    "payment_paused": ("paymentToken", "reason"),
    "dispute_raised": ("token",),
    "dispute_resolved": ("token",),
}
"""The fields that identify an event beside its type.

The type tells `settling` and `received` of one payment apart.
"""

LIFECYCLE = Lifecycle(
    stages=stages(
        "open", "pending", "funded", "on_hold disputed resolved", "released refunded", "completed cancelled"
    ),
    final=frozenset({"completed", "cancelled"}),
    answers={"resolved": "disputed"},
    many_payments=True,
)
"""How a transaction goes. trustshare promises no order and sends no times: only this shows which events are
late.
"""

_COUNTERPART = {"dispute_raised": "dispute_resolved", "dispute_resolved": "dispute_raised"}
_SECRET_HEADER = b"x-trustshare-secret"
_WS = rb"[ \t\r\n]*"
_HANDSHAKE_BYTES = 1024
_HANDSHAKE = re.compile(_WS.join([b"", rb"\{", b'"type"', b":", b'"handshake"', rb"\}", b""]))


READ_FROM: dict[str, tuple[str, ...]] = {
    "parties.buyer": ("from", "payload.from"),
    "parties.seller": ("to", "payload.to"),
    "details.balance": ("balance", "payload.balance"),
    "details.verification.buyer": ("verification.from", "payload.verification.from"),
    "details.verification.seller": ("verification.to", "payload.verification.to"),
    "details.payment_type": ("paymentType", "payload.paymentType"),
    "details.reason": ("reason", "payload.reason"),
}


class Settings(SourceSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A trustshare source. Any of `secrets` is accepted."""

    secrets: tuple[Secret, ...]


class Trustshare(Adapter[Settings]):
    """Reads trustshare's webhooks."""

    provider = "trustshare"
    Settings: ClassVar[type[SourceSettings]] = Settings
    mapping = TYPES
    lifecycle = LIFECYCLE
    read_from = READ_FROM
    in_turn = True

    def verify_head(self, head: RequestHead) -> HeadVerdict:
        """Check the shared secret. A request without one can only be a handshake, which is short."""
        check_no_path_token(head)
        if all(name != _SECRET_HEADER for name, _ in head.headers):
            return HeadVerdict(proven=False, max_body_bytes=_HANDSHAKE_BYTES)
        check_header(head, _SECRET_HEADER, self.settings.secrets)
        return PROVEN

    def verify(self, request: InboundRequest) -> Verdict:
        """Check the shared secret.

        At set-up trustshare asks for a 200 before it is known to send the secret, so a handshake without a
        secret is answered and not kept. A handshake with the secret is an event; one with a wrong secret is
        refused.
        """
        if self.verify_head(request).proven:
            return Verdict.STORE
        if len(request.body) > _HANDSHAKE_BYTES or not _HANDSHAKE.fullmatch(request.body):
            raise NotVerified(f"no {_SECRET_HEADER.decode()} header")
        return Verdict.ANSWER_ONLY

    def normalise(self, raw: RawEvent) -> Event:
        """Read one event, in the plain form or with its fields in `payload`."""
        body = jsonbody.read_object(raw.body, raw.max_depth)
        event_id = name(body, "id") or ""
        enveloped = event_id.startswith("wh_evt_")
        fields = members(body, "payload") if enveloped else body
        kind = name(body, "type")
        known = TYPES.get(kind or "")
        token = identifier(fields, "token")
        return Event(
            type=known or UNKNOWN,
            provider_event=kind,
            subject=token,
            transaction_id=token,
            payment_id=identifier(fields, "paymentToken"),
            parties={
                role: party
                for role, key in (("buyer", "from"), ("seller", "to"))
                if (party := text(fields, key))
            },
            money=_money(fields) if known else None,
            details=_details(fields, with_balance=known is not None),
            dedupe=DedupeKey((event_id,)) if enveloped else _dedupe(kind, fields),
        )

    def credential_headers(self, body: bytes, *, id: str, now: float) -> list[tuple[str, str]]:
        """Return the shared secret's header, with the first configured secret."""
        return [("x-trustshare-secret", self.settings.secrets[0].reveal().decode())]


def _dedupe(kind: str | None, fields: dict[str, Json]) -> DedupeKey | None:
    if kind is None or kind not in KEY_FIELDS:
        return None
    key = dedupe_key(kind, *(identifier(fields, field) for field in KEY_FIELDS[kind]))
    if key is None or kind not in _COUNTERPART:
        return key
    # A dispute that is raised again is a new event only after the one before was resolved.
    token = key.parts[1]
    return DedupeKey(key.parts, counts=f"{_COUNTERPART[kind]}:{token}", raises=f"{kind}:{token}")


def _money(fields: dict[str, Json]) -> Money | None:
    for field in ("amount", "estimated_value", "total_value"):
        if fields.get(field) is not None:
            return money.from_minor(fields[field], fields.get("currency"))
    return None


def _details(fields: dict[str, Json], *, with_balance: bool) -> dict[str, Json]:
    verification = members(fields, "verification")
    return present(
        balance=_balance(fields) if with_balance else None,
        verification=present(buyer=name(verification, "from"), seller=name(verification, "to")),
        payment_type=name(fields, "paymentType"),
        reason=name(fields, "reason"),
    )


def _balance(fields: dict[str, Json]) -> Json:
    """Return the money in escrow, if the body has it with its currency."""
    if fields.get("balance") is None or fields.get("currency") is None:
        return None
    balance = money.from_minor(fields["balance"], fields["currency"])
    return {"amount_minor": balance.amount_minor, "currency": balance.currency}


ADAPTER = Trustshare
