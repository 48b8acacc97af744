"""trustshare's lifecycles. Source: its webhooks page; the bodies are that page's."""

from collections import Counter
from typing import Any

from shared.providers.scenarios import (
    Demo,
    Fresh,
    Message,
    Scenario,
    Simulation,
    Step,
    message,
    scenario,
    step,
)

SCENARIOS = (
    scenario(
        "settled-and-released",
        "A card payment settles, is released to the seller, and the transaction completes.",
        *("transaction_initiated", "payment_settling", "payment_received", "payment_released"),
        "transaction_complete",
    ),
    scenario(
        "paid-in-parts",
        "Two payments come in and go out in two releases.",
        "transaction_initiated",
        *(step("payment_received", half=True, payment=label) for label in ("in-1", "in-2")),
        *(step("payment_released", half=True, payment=label) for label in ("out-1", "out-2")),
        "transaction_complete",
    ),
    scenario(
        "returned",
        "The seller returns the payment to the buyer.",
        *("transaction_initiated", "payment_received", "payment_returned", "transaction_complete"),
    ),
    scenario(
        "paused",
        "A release is paused for each of the six reasons before it goes out.",
        *("transaction_initiated", "payment_received"),
        *(
            step("payment_paused", reason=reason)
            for reason in (
                *("inbound_payments_pending", "from_document_required", "from_verification_required"),
                *("to_document_required", "to_verification_required", "unknown_contact_support"),
            )
        ),
        *("payment_released", "transaction_complete"),
    ),
    scenario(
        "disputed",
        "A dispute is raised and resolved before the release.",
        *("transaction_initiated", "payment_received", "dispute_raised", "dispute_resolved"),
        *("payment_released", "transaction_complete"),
    ),
    scenario(
        "disputed-twice",
        "A second dispute follows the first one's resolution: only its description tells it apart.",
        *("transaction_initiated", "payment_received"),
        *("dispute_raised", "dispute_resolved", "dispute_raised", "dispute_resolved"),
        *("payment_returned", "transaction_complete"),
    ),
    scenario(
        "abandoned",
        "Nobody pays for 28 days.",
        *("transaction_initiated", "transaction_abandoned"),
    ),
    scenario(
        "handshake",
        "The test request on set-up, without the secret (answered, not kept) and with it (recorded).",
        *(step("handshake", proven=False), "handshake"),
    ),
    scenario(
        "intent-confirmed",
        "An event of the newer API, which Headrace passes on as provider.unknown.",
        "intent_confirmed",
    ),
)


def write(played: Scenario, fresh: Fresh) -> list[Message]:
    """Return the requests of a lifecycle."""
    transaction = _Transaction(fresh)
    return [
        message(each.event, transaction.body(each), fresh, proven=each.special.get("proven", True))
        for each in played.steps
    ]


class _Transaction:
    """One transaction's ids, value and what stands in escrow."""

    def __init__(self, fresh: Fresh) -> None:
        self.fresh = fresh
        self.token = fresh.token()
        self.total = fresh.amount_minor()
        self.balance = 0
        self.payments: dict[str, str] = {}
        self.seen: Counter[str] = Counter()
        buyer = fresh.base32(8)
        self.parties = {"from": f"buyer-{buyer}@example.com", "to": f"seller-{buyer}@example.com"}

    def body(self, each: Step) -> dict[str, Any]:
        event, special = each.event, each.special
        self.seen[event] += 1
        if event == "handshake":
            return {"type": event}
        if event == "intent_confirmed":
            payload = {"id": f"intent_{self.fresh.token()}", "amount": self.total, "currency": "gbp"}
            return {"id": f"wh_evt_{self.fresh.token(20)}", "type": event, "payload": payload}
        description = {"description": "A simulated transaction"}
        if event.startswith("dispute_"):
            if self.seen[event] > 1:  # of the same bytes, it would be a copy: dedupe.resend_window
                description = {"description": "A simulated transaction, disputed again"}
            return {"type": event, **self.parties, "token": self.token, **description}
        amount = self.total // 2 if special.get("half") else self.total
        self.balance += {
            "payment_received": amount,
            "payment_released": -amount,
            "payment_returned": -amount,
        }.get(event, 0)
        outward = event in {"payment_released", "payment_returned", "payment_paused"}
        label = special.get("payment", "out" if outward else "in")
        payment = {"paymentToken": self.payments.setdefault(label, self.fresh.token())}
        verified = {"from": "verified" if event == "payment_returned" else "unverified", "to": "verified"}
        return {
            "type": event,
            **({"paymentType": "release"} if event == "payment_paused" else {}),
            **self.parties,
            "verification": verified,
            "token": self.token,
            **(payment if event.startswith("payment_") else {}),
            "currency": "gbp",
            **description,
            **({"estimated_value": self.total} if event == "transaction_initiated" else {}),
            **({"total_value": self.total} if event == "transaction_complete" else {}),
            **({"amount": amount} if event.startswith("payment_") else {}),
            "balance": self.balance,
            **({"reason": special["reason"]} if "reason" in special else {}),
        }


def _fresh(fresh: Fresh) -> dict[str, str]:
    return {known: fresh.token() for known in ("5CIXLExTtrIE8387", "f79L9CBt3NuyEEap", "oXkIwJcxE3S3Z8BX")}


SIMULATION = Simulation(
    SCENARIOS,
    write,
    Demo(
        'secrets = ["{secret}"]',
        (
            *("transaction_initiated", "payment_settling", "payment_received", "dispute_raised"),
            *("dispute_resolved", "payment_paused", "payment_released", "payment_returned"),
            *("transaction_complete", "transaction_abandoned", "handshake"),
        ),
        _fresh,
    ),
)
