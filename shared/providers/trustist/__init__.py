"""TrustistTransfer: no authentication but the path; `eventType` and `status` name the event.

Source: Trustist's partner-webhooks page; the `payment.*` events are its merchant hooks'.
"""

from collections.abc import Mapping
from typing import ClassVar

from shared.errors import Unreadable
from shared.event import jsonbody, money
from shared.event.canonical import Event
from shared.event.lifecycle import Lifecycle, stages
from shared.event.times import to_utc
from shared.event.types import UNKNOWN
from shared.providers.base import PROVEN, Adapter, HeadVerdict, RawEvent, RequestHead
from shared.providers.credentials import PathTokenSettings, check_path_token
from shared.providers.fields import dedupe_key, identifier, name, present
from shared.settings import SourceSettings

TYPES: dict[tuple[str, str | None], str] = {
    # partner hooks
    ("InvitationStatusChanged", "OPENED"): "invitation.opened",
    ("InvitationStatusChanged", "COMPLETE"): "invitation.completed",
    ("PaymentStatusChanged", "PENDING"): "payment.pending",
    ("PaymentStatusChanged", "COMPLETE"): "payment.completed",
    ("PaymentStatusChanged", "FAILED"): "payment.failed",
    # merchant hooks: a status that contradicts the name makes it an unknown event
    ("payment.created", "PENDING"): "payment.pending",
    ("payment.created", None): "payment.pending",
    ("payment.completed", "COMPLETE"): "payment.completed",
    ("payment.completed", None): "payment.completed",
    ("payment.failed", "FAILED"): "payment.failed",
    ("payment.failed", None): "payment.failed",
}
"""Trustist's `eventType` and `status` → canonical type."""

LIFECYCLE = Lifecycle(stages=stages("pending", "failed", "paid"), final=frozenset({"paid"}))
"""How a payment goes. One that failed may be tried again."""

_STATUS_ALIASES = {"COMPLETED": "COMPLETE", "CREATED": "PENDING"}


READ_FROM: dict[str, tuple[str, ...]] = {
    "parties.merchant": ("merchantId",),
    "details.payment_created": ("created",),
    "details.organisation": ("orgId",),
    "details.reference": ("reference",),
}


class Settings(PathTokenSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Trustist source. `currency` is that of its amounts, which mostly come without one."""

    currency: str

    def __post_init__(self) -> None:
        """Refuse a currency that amounts cannot be read in."""
        super().__post_init__()
        try:
            money.exponent(self.currency)
        except Unreadable:
            raise ValueError("`currency` is not an ISO 4217 code with a minor unit, such as GBP") from None


class Trustist(Adapter[Settings]):
    """Reads TrustistTransfer's webhooks."""

    provider = "trustist"
    Settings: ClassVar[type[SourceSettings]] = Settings
    lifecycle = LIFECYCLE
    read_from = READ_FROM
    mapping: ClassVar[Mapping[str, str]] = {
        " ".join(word for word in kind if word): type for kind, type in TYPES.items()
    }

    def verify_head(self, head: RequestHead) -> HeadVerdict:
        """Check the path token."""
        check_path_token(head, self.settings.path_tokens)
        return PROVEN

    def normalise(self, raw: RawEvent) -> Event:
        """Read one event. A payment's `created` is when it was made, so only its first event's time."""
        body = jsonbody.read_object(raw.body, raw.max_depth)
        kind, status = name(body, "eventType"), name(body, "status")
        known = TYPES.get((kind or "", _STATUS_ALIASES.get(status or "", status)))
        invitation = known is not None and known.startswith("invitation.")
        payment = None if invitation else identifier(body, "paymentId")
        subject = identifier(body, "invitationId") if invitation else payment
        created = name(body, "created")
        time = name(body, "updated") if invitation else created if known == "payment.pending" else None
        merchant = identifier(body, "merchantId")
        amount = body.get("amount") if known is not None and not invitation else None
        currency = body.get("currency")
        return Event(
            type=known or UNKNOWN,
            provider_event=kind,
            subject=subject,
            time=to_utc(time),
            occurred_at=time,
            transaction_id=payment,
            payment_id=payment,
            parties={} if merchant is None else {"merchant": merchant},
            money=None
            if amount is None
            else money.from_major(amount, self.settings.currency if currency is None else currency),
            provider_status=status,
            details=present(
                payment_created=created,
                organisation=identifier(body, "orgId"),
                reference=identifier(body, "reference"),
            ),
            dedupe=dedupe_key(kind, subject, status) if known else None,
        )

    def paths(self) -> list[str]:
        """Return one path a token."""
        return self.settings.token_paths()


ADAPTER = Trustist
