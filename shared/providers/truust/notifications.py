"""Truust's notifications: how each is named, what it becomes, and which statuses it stands beside.

What Truust publishes of them is their names; the statuses are inferred from its recurring-payments guide.
"""

import re

TYPES: dict[str, str] = {
    "Order Published": "payment.received",
    "Order Failed": "payment.failed",
    "Order Accepted": "transaction.accepted",
    "Order Rejected": "transaction.rejected",
    "Order Cancelled": "transaction.cancelled",
    "Payout Created": "payout.created",
    "Order Released": "payout.released",
    "PayinConfirmed": "payment.confirmed",
    "PayinEPGConfirmed": "payment.confirmed",
}
"""Truust's notification → canonical type."""

ALIASES = {"escrow": "order", "canceled": "cancelled", "failure": "failed"}
"""Words that Truust uses for one another."""

ESCROW_STATUSES: dict[str, frozenset[str]] = {
    "Order Published": frozenset({"pending_publish", "published"}),
    "Order Failed": frozenset({"draft", "pending_publish", "failed"}),
    "Order Accepted": frozenset({"accepted", "pending_validate", "pending_release"}),
    "Order Rejected": frozenset({"rejected"}),
    "Order Cancelled": frozenset({"cancelled"}),
    "Payout Created": frozenset({"accepted", "pending_validate", "pending_release", "released"}),
    "Order Released": frozenset({"pending_release", "released"}),
    "PayinConfirmed": frozenset({"draft", "pending_publish", "published", "accepted"}),
    "PayinEPGConfirmed": frozenset({"draft", "pending_publish", "published", "accepted"}),
}
"""The escrow statuses that each notification can stand beside; any other known one contradicts it."""

PAYIN_STATUSES_REFUTING: dict[str, frozenset[str]] = {
    "Order Published": frozenset({"failed"}),
    "Order Failed": frozenset({"confirmed"}),
    "PayinConfirmed": frozenset({"failed"}),
    "PayinEPGConfirmed": frozenset({"failed"}),
}
"""The payin statuses that contradict a notification."""

INFERRED_FROM_ESCROW = {
    "published": "Order Published",
    "failed": "Order Failed",
    "accepted": "Order Accepted",
    "rejected": "Order Rejected",
    "cancelled": "Order Cancelled",
    "released": "Order Released",
}
INFERRED_FROM_PAYIN = {"confirmed": "PayinConfirmed", "failed": "Order Failed"}
INFERRED_FROM_PAYOUT = {
    "draft": "Payout Created",
    "created": "Payout Created",
    "pending": "Payout Created",
    "released": "Order Released",
}
"""If neither the source nor the body names the event: status → notification."""

_WORD_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")


def plain_name(given: str) -> str:
    r"""Return the form in which names and statuses are compared.

    `App\Events\EscrowPublished`, `Order Published` and `order.published` are all `order_published`.
    """
    words = (word.lower() for word in _WORD_BREAK.split(given.rpartition("\\")[2]) if word)
    return "_".join(ALIASES.get(word, word) for word in words)


NOTIFICATIONS = {plain_name(notification): notification for notification in TYPES}
"""A notification's name, in the form of `plain_name` → as Truust writes it."""
