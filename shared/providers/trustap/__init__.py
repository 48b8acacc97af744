"""Trustap: HTTP Basic; a `code` names the event; the family before its dot is a number space of its own.

Source: Trustap's webhooks page for v1 (`basic_tx`, `p2p_tx`); `tx` is API v2.
"""

from base64 import b64encode
from typing import ClassVar

from shared.event import jsonbody, money
from shared.event.canonical import DedupeKey, Event, Money
from shared.event.jsonbody import Json
from shared.event.lifecycle import Lifecycle, stages
from shared.event.times import to_utc
from shared.event.types import UNKNOWN
from shared.providers.base import PROVEN, Adapter, HeadVerdict, RawEvent, RequestHead
from shared.providers.credentials import check_basic, check_no_path_token
from shared.providers.fields import dedupe_key, identifier, members, name, present, text
from shared.secrets import Secret
from shared.settings import SourceSettings

TYPES: dict[str, str] = {
    # online transactions
    "basic_tx.joined": "transaction.joined",
    "basic_tx.rejected": "transaction.rejected",
    "basic_tx.cancelled": "transaction.cancelled",
    "basic_tx.claimed": "transaction.claimed",
    "basic_tx.listing_transaction_accepted": "transaction.accepted",
    "basic_tx.listing_transaction_rejected": "transaction.rejected",
    "basic_tx.payment_failed": "payment.failed",
    "basic_tx.paid": "payment.received",
    "basic_tx.payment_refunded": "payment.refunded",
    "basic_tx.payment_review_flagged": "payment.review_flagged",
    "basic_tx.payment_review_finished": "payment.review_finished",
    "basic_tx.tracking_details_submission_deadline_extended": "fulfilment.deadline_extended",
    "basic_tx.tracked": "fulfilment.shipped",
    "basic_tx.delivered": "fulfilment.delivered",
    "basic_tx.complained": "dispute.raised",
    "basic_tx.complaint_period_ended": "dispute.window_closed",
    "basic_tx.funds_released": "payout.released",
    "basic_tx.funds_refunded": "payment.refunded",
    "basic_tx.deposit_refunded": "payment.refunded",  # not documented; seen in a plugin
    # face-to-face transactions
    "p2p_tx.joined": "transaction.joined",
    "p2p_tx.rejected": "transaction.rejected",
    "p2p_tx.cancelled": "transaction.cancelled",
    "p2p_tx.claimed": "transaction.claimed",
    "p2p_tx.deposit_payment_failed": "payment.failed",
    "p2p_tx.deposit_paid": "payment.received",
    "p2p_tx.deposit_review_flagged": "payment.review_flagged",
    "p2p_tx.deposit_review_finished": "payment.review_finished",
    "p2p_tx.deposit_refunded": "payment.refunded",
    "p2p_tx.deposit_accepted": "payment.accepted",
    "p2p_tx.priced": "transaction.priced",
    "p2p_tx.remainder_skipped": "payment.skipped",
    "p2p_tx.remainder_paid": "payment.received",
    "p2p_tx.remainder_review_flagged": "payment.review_flagged",
    "p2p_tx.remainder_review_finished": "payment.review_finished",
    "p2p_tx.buyer_handover_confirmed": "fulfilment.handover_confirmed",
    "p2p_tx.seller_handover_confirmed": "fulfilment.handover_confirmed",
    "p2p_tx.complained": "dispute.raised",
    "p2p_tx.funds_released": "payout.released",
    "p2p_tx.funds_refunded": "payment.refunded",
    # API v2
    "tx.cancelled": "transaction.cancelled",
    "tx.claimed": "transaction.claimed",
    "tx.payment_failed": "payment.failed",
    "tx.paid": "payment.received",
    "tx.payment_accepted": "payment.accepted",
    "tx.payment_review_flagged": "payment.review_flagged",
    "tx.funds_refunded": "payment.refunded",
    "tx.refund_issued": "payment.refund_issued",
    "tx.complained": "dispute.raised",
    "tx.funds_released": "payout.released",
    "tx.tracked": "fulfilment.shipped",
    "tx.delivered": "fulfilment.delivered",
    "tx.handover_confirmed": "fulfilment.handover_confirmed",
}
"""Trustap's `code` → canonical type."""

FAMILIES = frozenset(code.partition(".")[0] for code in TYPES)

_PRICE_OF_FAMILY: dict[str, tuple[str, ...]] = {
    "basic_tx": ("price",),
    "p2p_tx": ("price",),
    "tx": ("pricing", "amount"),
}
_AMOUNTS: dict[str, tuple[str, ...]] = {
    "deposit_payment_failed": ("deposit_pricing", "price"),
    "deposit_paid": ("deposit_pricing", "price"),
    "deposit_review_flagged": ("deposit_pricing", "price"),
    "deposit_review_finished": ("deposit_pricing", "price"),
    "deposit_refunded": ("deposit_pricing", "price"),
    "deposit_accepted": ("deposit_pricing", "price"),
    "priced": ("pricing", "price"),
    # No key has the remainder's amount: `pricing` is the whole price.
    "remainder_skipped": (),
    "remainder_paid": (),
    "remainder_review_flagged": (),
    "remainder_review_finished": (),
    # Never the price: a refund or a release may be partial.
    "payment_refunded": ("amount_refunded",),
    "funds_refunded": ("amount_refunded",),
    "refund_issued": ("amount_refunded",),
    "funds_released": ("amount_released",),
}
"""The key of `target_preview` that holds an event's amount, if that is not its family's price."""

LIFECYCLE = Lifecycle(
    stages=stages(
        "open",
        "accepted",
        "failed",
        "funded in_review",
        "shipped",
        "delivered",
        "disputed",
        "released refunded cancelled rejected",
    ),
    final=frozenset({"released", "refunded", "cancelled", "rejected"}),
    settling=frozenset(
        {
            ("cancelled", "refunded"),
            ("rejected", "refunded"),
            # A dispute may end with a part for each side.
            ("released", "refunded"),
            ("refunded", "released"),
        }
    ),
    restores={"payment.review_finished": "in_review"},
    # The preview is of the transaction: its amounts are totals so far.
    running_totals=frozenset(
        code
        for code in TYPES
        if _AMOUNTS.get(code.partition(".")[2]) in {("amount_refunded",), ("amount_released",)}
    ),
)
"""How a transaction goes. It is inferred from the descriptions of the codes, as no page documents it."""

_BY: dict[str, str | None] = {
    "buyer_handover_confirmed": "buyer",
    "seller_handover_confirmed": "seller",
    "handover_confirmed": None,
}
"""Who confirmed a handover; v2 does not say."""


READ_FROM: dict[str, tuple[str, ...]] = {
    "parties.buyer": ("target_preview.buyer_id", "target_preview.buyer.id"),
    "parties.seller": ("target_preview.seller_id", "target_preview.seller.id"),
    "details.actor": ("user_id",),
    "details.failure_code": ("metadata.failure_code",),
    "details.reason": ("target_preview.complaint.description",),
    "details.tracking.carrier": ("target_preview.tracking.carrier",),
    "details.tracking.code": ("target_preview.tracking.tracking_code",),
}


class Settings(SourceSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Trustap source: the credentials agreed with Trustap. Any of `passwords` is accepted."""

    username: str
    passwords: tuple[Secret, ...]


class Trustap(Adapter[Settings]):
    """Reads Trustap's webhooks."""

    provider = "trustap"
    Settings: ClassVar[type[SourceSettings]] = Settings
    mapping = TYPES
    lifecycle = LIFECYCLE
    read_from = READ_FROM

    def verify_head(self, head: RequestHead) -> HeadVerdict:
        """Check the Basic credentials."""
        check_no_path_token(head)
        check_basic(head, self.settings.username, self.settings.passwords)
        return PROVEN

    def normalise(self, raw: RawEvent) -> Event:
        """Read one event. Times of the preview are never used: they may follow the event's own."""
        body = jsonbody.read_object(raw.body, raw.max_depth)
        code = name(body, "code")
        family, _, happening = (code or "").partition(".")
        preview = members(body, "target_preview")
        target = identifier(body, "target_id")
        time = name(body, "time")
        known = TYPES.get(code or "")
        transaction = f"{family}/{target}" if target is not None and family in FAMILIES else None
        return Event(
            type=known or UNKNOWN,
            provider_event=code,
            subject=transaction,
            time=to_utc(time),
            occurred_at=time,
            transaction_id=transaction,
            parties=_parties(preview),
            money=_money(preview, family, happening) if known else None,
            provider_status=name(preview, "status"),
            details=_details(body, preview, happening),
            dedupe=_dedupe(code, target, time, identifier(body, "user_id")) if known else None,
        )

    def proof(self) -> list[str]:
        """Return the scheme and the user name."""
        return [f"HTTP Basic, user name {self.settings.username}"]

    def credential_headers(self, body: bytes, *, id: str, now: float) -> list[tuple[str, str]]:
        """Return Basic credentials with the first configured password."""
        pair = self.settings.username.encode() + b":" + self.settings.passwords[0].reveal()
        return [("authorization", f"Basic {b64encode(pair).decode()}")]


def _dedupe(code: str | None, target: str | None, time: str | None, user: str | None) -> DedupeKey | None:
    """Return code, transaction, time, and who caused it: buyer and seller may claim within one second.

    A system event has no user, and its key has three parts.
    """
    return dedupe_key(code, target, time) if user is None else dedupe_key(code, target, time, user)


def _parties(preview: dict[str, Json]) -> dict[str, str]:
    """Return who buys and who sells: `buyer_id` in v1, `buyer.id` in v2."""
    parties = {}
    for role in ("buyer", "seller"):
        party = identifier(preview, f"{role}_id") or identifier(members(preview, role), "id")
        if party is not None:
            parties[role] = party
    return parties


def _money(preview: dict[str, Json], family: str, happening: str) -> Money | None:
    path = _AMOUNTS.get(happening, _PRICE_OF_FAMILY[family])
    if not path:
        return None
    holder = members(preview, path[0]) if len(path) > 1 else preview
    amount = holder.get(path[-1])
    if amount is None:
        return None
    currencies = (
        holder.get("currency"),
        preview.get("currency"),
        members(preview, "pricing").get("currency"),
    )
    return money.from_minor(amount, next((currency for currency in currencies if currency is not None), None))


def _details(body: dict[str, Json], preview: dict[str, Json], happening: str) -> dict[str, Json]:
    tracking = members(preview, "tracking")
    details = present(
        actor=identifier(body, "user_id"),
        failure_code=identifier(members(body, "metadata"), "failure_code"),
        reason=text(members(preview, "complaint"), "description"),
        tracking=present(carrier=text(tracking, "carrier"), code=identifier(tracking, "tracking_code")),
    )
    return details | {"by": _BY[happening]} if happening in _BY else details


ADAPTER = Trustap
