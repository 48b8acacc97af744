"""Lifecycles of a sender that signs by Standard Webhooks, in the payload that the standard proposes.

The standard leaves all fields but `type` and `timestamp` to the sender. These are the fields that another
Headrace sends in the form `standard`, so a source with the expressions for that finds all of them.
"""

from typing import Any

from shared.providers.scenarios import Fresh, Message, Scenario, Simulation, message, scenario

_PAID = ("transaction.initiated", "payment.received")

SCENARIOS = (
    scenario(
        "paid-and-released",
        "A payment comes in and goes out.",
        *(*_PAID, "payout.released", "transaction.completed"),
    ),
    scenario(
        "failed-and-retried",
        "A payment fails, and the next one succeeds.",
        *("transaction.initiated", "payment.failed", "payment.received", "payout.released"),
    ),
    scenario("refunded", "A payment is refunded.", *_PAID, "payment.refunded"),
    scenario(
        "disputed-twice",
        "Two disputes, alike but for the id of the message.",
        *(*_PAID, "dispute.raised", "dispute.resolved", "dispute.raised", "dispute.resolved"),
    ),
    scenario(
        "types-of-its-own",
        "Types that are not in the table of canonical ones.",
        *("subscription.renewed", "invoice.overdue"),
    ),
)
_WITHOUT_MONEY = ("dispute.", "transaction.completed", "subscription.")


def write(played: Scenario, fresh: Fresh) -> list[Message]:
    """Return the requests of a lifecycle."""
    transaction, payment = f"order-{fresh.token(12)}", f"pay-{fresh.token(12)}"
    money = {"amount_minor": fresh.amount_minor(), "currency": "GBP"}
    messages = []
    for each in played.steps:
        time = fresh.later(3)
        data: dict[str, Any] = {
            "provider": "simulated",
            "provider_event": each.event.replace(".", "_"),
            "transaction_id": transaction,
            "payment_id": payment if each.event.startswith(("payment.", "payout.")) else None,
            "parties": {},
            "money": None if each.event.startswith(_WITHOUT_MONEY) else money,
            "status": None,
            "provider_status": None,
            "occurred_at": time,
            "details": {},
            "original": {},
        }
        messages.append(message(each.event, {"type": each.event, "timestamp": time, "data": data}, fresh))
    return messages


SIMULATION = Simulation(SCENARIOS, write)
