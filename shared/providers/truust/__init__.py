"""Truust: no authentication but the path, and bodies that do not name their event.

Source: Truust's developers page (the notifications) and its recurring-payments guide (the one
published body, EscrowPublished). The other bodies, and what is inferred from statuses, are guesses:
each stands in one table in `notifications.py`.
"""

from typing import ClassVar

import msgspec

from shared.errors import Unreadable
from shared.event import jsonbody, money
from shared.event.canonical import DedupeKey, Event, Money
from shared.event.jsonbody import Json
from shared.event.lifecycle import Lifecycle, stages
from shared.event.types import UNKNOWN
from shared.providers.base import PROVEN, Adapter, HeadVerdict, RawEvent, RequestHead
from shared.providers.credentials import PathTokenSettings, check_path_token
from shared.providers.fields import dedupe_key, identifier, members, name, present
from shared.providers.truust.notifications import (
    ESCROW_STATUSES,
    INFERRED_FROM_ESCROW,
    INFERRED_FROM_PAYIN,
    INFERRED_FROM_PAYOUT,
    NOTIFICATIONS,
    PAYIN_STATUSES_REFUTING,
    TYPES,
    plain_name,
)
from shared.settings import SourceSettings
from shared.values import MemberPath

LIFECYCLE = Lifecycle(
    stages=stages("failed", "funded", "accepted", "payout_pending", "released cancelled rejected"),
    final=frozenset({"released", "cancelled", "rejected"}),
)
"""How an order goes, by what its statuses suggest. One whose payment failed may be paid after all."""

_NAME_KEYS = ("event", "event_type", "eventType", "notification")
_ENVELOPES = ("data", "attributes", "payload")
_MAX_LAYERS = 8
_FINAL = frozenset({"failed", "rejected", "cancelled", "released"})
_KNOWN_STATUSES = frozenset().union(*ESCROW_STATUSES.values())
_SUBJECTS = frozenset(plain.partition("_")[0] for plain in NOTIFICATIONS)


CARD_DETAILS = (
    "**.card",
    "**.card_id",
    "**.Ds_CardNumber",
    "**.Ds_Card_Number",
    "**.Ds_ExpiryDate",
    # With these two, a card can be charged again.
    "**.Ds_Merchant_Identifier",
    "**.Ds_Merchant_Cof_Txnid",
)
"""Card details, at any depth: most of Truust's bodies are not published, and all may come in an envelope."""

READ_FROM: dict[str, tuple[str, ...]] = {
    "details.auto_settled": ("**.escrow.auto_settled", "**.order.auto_settled"),
    "details.payin_status": ("**.payin.status",),
    "details.payout_status": ("**.payout.status",),
}


class Settings(PathTokenSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Truust source.

    `event` binds its URL to the one notification that Truust was told to send there. With `keep_card_details`
    targets get masked card numbers, and what a card can be charged with again.
    """

    event: str | None = None
    keep_card_details: bool = False

    def __post_init__(self) -> None:
        """Refuse a binding to no known notification."""
        super().__post_init__()
        if self.event is not None and plain_name(self.event) not in NOTIFICATIONS:
            raise ValueError(f"`event` is none of Truust's notifications: {', '.join(TYPES)}")


class Truust(Adapter[Settings]):
    """Reads Truust's webhooks."""

    provider = "truust"
    Settings: ClassVar[type[SourceSettings]] = Settings
    mapping = TYPES
    lifecycle = LIFECYCLE
    read_from = READ_FROM
    redacted_by_default = CARD_DETAILS

    def verify_head(self, head: RequestHead) -> HeadVerdict:
        """Check the path token."""
        check_path_token(head, self.settings.path_tokens)
        return PROVEN

    def normalise(self, raw: RawEvent) -> Event:
        """Read one event.

        The binding says which it is, else a name in the body, else the structure and the statuses.
        """
        body = _Body.of(_layers(raw))
        notification, said = self._notification(body)
        inferred = notification is None and said is None
        if inferred:
            notification = _infer(body)
        transaction = body.transaction_id()
        payin_id, payout_id = identifier(body.payin, "id"), identifier(body.payout, "id")
        about_payout = notification in {"Payout Created", "Order Released"}
        return Event(
            type=TYPES[notification] if notification else UNKNOWN,
            provider_event=said or notification,
            subject=transaction,
            type_inferred=inferred and notification is not None,
            transaction_id=transaction,
            payment_id=(payout_id or payin_id) if about_payout else (payin_id or payout_id),
            money=_money(body.escrow) if notification else None,
            provider_status=name(body.escrow, "status"),
            details=present(
                auto_settled={"1": True, "0": False}.get(identifier(body.escrow, "auto_settled") or ""),
                payin_status=name(body.payin, "status"),
                payout_status=name(body.payout, "status"),
            ),
            dedupe=_dedupe(notification, body) if notification else None,
        )

    def redacted(self) -> tuple[MemberPath, ...]:
        """Return what no target gets: card details too, unless the source keeps them."""
        return self.settings.redact if self.settings.keep_card_details else super().redacted()

    def bound(self, event: str) -> bool | None:
        """Tell whether this is the notification that the source's URL is bound to; None without a binding."""
        binding = self.settings.event
        return None if binding is None else plain_name(binding) == plain_name(event)

    def paths(self) -> list[str]:
        """Return one path a token."""
        return self.settings.token_paths()

    def _notification(self, body: "_Body") -> tuple[str | None, str | None]:
        """Return the notification, if it is known, and the name that the body gives it.

        Raises: Unreadable (`binding-conflict`) if the body contradicts the source's binding.
        """
        said = body.said
        named = NOTIFICATIONS.get(plain_name(said)) if said is not None else None
        if self.settings.event is None:
            return named, said
        bound = NOTIFICATIONS[plain_name(self.settings.event)]
        if said is not None and named != bound:
            raise _conflict(bound, "the event's name")
        status = plain_name(name(body.escrow, "status") or "")
        if status in _KNOWN_STATUSES - ESCROW_STATUSES[bound]:
            raise _conflict(bound, "escrow.status")
        if plain_name(name(body.payin, "status") or "") in PAYIN_STATUSES_REFUTING.get(bound, ()):
            raise _conflict(bound, "payin.status")
        return bound, said


class _Body(msgspec.Struct, frozen=True):
    """The parts of a body that matter, taken out of any envelope."""

    said: str | None
    with_order_id: dict[str, Json]
    escrow: dict[str, Json]
    payin: dict[str, Json]
    payout: dict[str, Json]
    order: dict[str, Json]

    @classmethod
    def of(cls, layers: list[dict[str, Json]]) -> "_Body":
        def first(key: str) -> dict[str, Json]:
            return next((found for layer in layers if (found := members(layer, key))), {})

        order = first("order")
        return cls(
            said=_said(layers),
            with_order_id=next((layer for layer in layers if layer.get("order_id") is not None), {}),
            escrow=first("escrow") or order,
            payin=first("payin"),
            payout=first("payout"),
            order=order,
        )

    def transaction_id(self) -> str | None:
        """Return the first of the ids that is present. If it is malformed, no other is used."""
        places = (
            (self.escrow, "id"),
            (self.order, "id"),
            (self.with_order_id, "order_id"),
            (self.payin, "escrow_id"),
        )
        return next((identifier(parent, key) for parent, key in places if parent.get(key) is not None), None)


def _layers(raw: RawEvent) -> list[dict[str, Json]]:
    """Return the body's object and those in its envelopes, outermost first.

    Raises: Unreadable.
    """
    outermost = _unwrapped(jsonbody.read(raw.body, raw.max_depth))
    if outermost is None:
        raise Unreadable("not-an-object", "the body holds no JSON object")
    layers = [outermost]
    for layer in layers:  # the list grows in the loop
        for key in _ENVELOPES:
            inner = _unwrapped(layer.get(key))
            if inner is not None and len(layers) < _MAX_LAYERS:
                layers.append(inner)
    return layers


def _unwrapped(value: Json) -> dict[str, Json] | None:
    """Return the object that `value` is, or holds as a one-element list or as JSON in a string."""
    for _ in range(_MAX_LAYERS):
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, str):
            try:
                value = jsonbody.read(value.encode())
            except Unreadable:
                return None
        else:
            break
    return value if isinstance(value, dict) else None


def _said(layers: list[dict[str, Json]]) -> str | None:
    """Return the event's name, as the body has it.

    A `type` may also be that of a resource (`escrows`) or a payment (`REDSYS_APPLE_PAY`): it counts only in
    the outermost object, and only if it looks like a notification.
    """
    for layer in layers:
        for key in _NAME_KEYS:
            if said := name(layer, key):
                return said
    said = name(layers[0], "type")
    subject, more, _ = plain_name(said or "").partition("_")
    return said if more and subject in _SUBJECTS else None


def _infer(body: _Body) -> str | None:
    """Return the notification that fits the body's parts and statuses best, if any."""
    escrow = plain_name(name(body.escrow, "status") or "")
    if body.payout and not body.payin and escrow not in _FINAL:
        # A payout without its payment: the event is about the payout.
        return INFERRED_FROM_PAYOUT.get(plain_name(name(body.payout, "status") or "created"))
    return INFERRED_FROM_ESCROW.get(escrow) or INFERRED_FROM_PAYIN.get(
        plain_name(name(body.payin, "status") or "")
    )


def _dedupe(notification: str, body: _Body) -> DedupeKey | None:
    """Return event, order, its status, and each payment's id and status; one payment at least.

    The payin's id tells two failures of one order apart.
    """
    if not (body.payin or body.payout):
        return None
    parts = [notification, body.transaction_id(), name(body.escrow, "status")]
    for payment in (body.payin, body.payout):
        parts += [identifier(payment, "id"), name(payment, "status")] if payment else ["", ""]
    return dedupe_key(*parts)


def _money(escrow: dict[str, Json]) -> Money | None:
    amount = escrow.get("amount")
    return None if amount is None else money.from_major(amount, escrow.get("currency"))


def _conflict(bound: str, where: str) -> Unreadable:
    return Unreadable("binding-conflict", f"{where} contradicts the source's `event`, {bound}")


ADAPTER = Truust
