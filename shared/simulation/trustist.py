"""TrustistTransfer's lifecycles. Source: its partner-webhooks page; `payment.*` are its merchant hooks'."""

from typing import Any

from shared.simulation.scenarios import Fresh, Message, Scenario, decimal, message, scenario

SCENARIOS = (
    scenario(
        "onboarded",
        "An invited merchant opens the invitation and completes it.",
        *("InvitationStatusChanged OPENED", "InvitationStatusChanged COMPLETE"),
    ),
    scenario(
        "paid",
        "A payment is created and completes.",
        *("PaymentStatusChanged PENDING", "PaymentStatusChanged COMPLETE"),
    ),
    scenario(
        "failed",
        "A payment is created and fails.",
        *("PaymentStatusChanged PENDING", "PaymentStatusChanged FAILED"),
    ),
    scenario(
        "failed-and-retried",
        "A payment fails, is tried again and completes: FAILED is not the end.",
        *("PaymentStatusChanged PENDING", "PaymentStatusChanged FAILED", "PaymentStatusChanged COMPLETE"),
    ),
    scenario(
        "merchant-paid",
        "A payment of the merchant hooks completes; they name the currency.",
        *("payment.created PENDING", "payment.completed COMPLETE"),
    ),
    scenario(
        "merchant-failed",
        "A payment of the merchant hooks fails; they may leave the status out.",
        *("payment.created", "payment.failed FAILED"),
    ),
    scenario(
        "merchant-without-status",
        "Payments of the merchant hooks whose events say no status.",
        *("payment.created", "payment.failed", "payment.completed"),
    ),
)


def write(played: Scenario, fresh: Fresh) -> list[Message]:
    """Return the requests of a lifecycle."""
    ids = {
        "invitationId": fresh.uuid(),
        "merchantId": f"M-{fresh.number(8)}",
        "paymentId": f"P-{fresh.number(12)}",
        "orgId": f"O-{fresh.number(8)}",
        "reference": f"INV-{fresh.number(10)}",
    }
    amount = decimal(fresh.amount_minor())
    created = fresh.later(7)
    messages = []
    for each in played.steps:
        kind, _, status = each.event.partition(" ")
        merchant_hook = kind.startswith("payment.")
        body: dict[str, Any] = {"eventType": kind}
        if kind == "InvitationStatusChanged":
            body["invitationId"] = ids["invitationId"]
            if status == "COMPLETE":
                body["merchantId"] = ids["merchantId"]
            body["updated"] = fresh.later(7)
        else:
            body |= {key: ids[key] for key in ("merchantId", "paymentId")}
            if merchant_hook:
                body |= {key: ids[key] for key in ("orgId", "reference")} | {"currency": "GBP"}
            body |= {"created": created, "amount": amount}
        if status:
            body["status"] = "COMPLETED" if merchant_hook and status == "COMPLETE" else status
        messages.append(message(each.event, body, fresh))
    return messages
