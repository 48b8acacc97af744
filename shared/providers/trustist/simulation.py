"""TrustistTransfer's lifecycles. Source: its partner-webhooks page; `payment.*` are its merchant hooks'."""

from typing import Any

from shared.providers.scenarios import Demo, Fresh, Message, Scenario, Simulation, decimal, message, scenario

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


def _fresh(fresh: Fresh) -> dict[str, str]:
    return {
        "3f2b8c1e-5d7a-4c7e-9a43-0d6f1b2c9e10": fresh.uuid(),
        "P-88310": f"P-{fresh.number(8)}",
        "M-20417": f"M-{fresh.number(6)}",
    }


SIMULATION = Simulation(
    SCENARIOS,
    write,
    Demo(
        'path_tokens = ["{secret}"]\ncurrency = "GBP"',
        (
            *("InvitationStatusChanged-OPENED", "InvitationStatusChanged-COMPLETE"),
            *("PaymentStatusChanged-PENDING", "PaymentStatusChanged-FAILED", "PaymentStatusChanged-COMPLETE"),
        ),
        _fresh,
    ),
)
