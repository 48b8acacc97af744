"""The canonical types of events, and the status that each gives its transaction."""

import re

TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
"""What a type looks like: a canonical one, or one of a sender that signs by Standard Webhooks."""

HANDSHAKE = "source.handshake"
UNKNOWN = "provider.unknown"

TEST_PROVIDER, TEST_TYPE = "headrace", "headrace.test"
"""What `headrace targets test` sends. It is not a provider's event, and not in the table below."""

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
"""Every canonical type → the canonical status that it gives its transaction; None if it gives none."""
