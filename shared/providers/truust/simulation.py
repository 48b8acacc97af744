"""Truust's lifecycles. Its bodies do not name their event: the URL does, or structure and statuses do.

Source: its developers page and recurring-payments guide. Only EscrowPublished's body is published; the
others are that one with the statuses (and the payout) of their moment, as `shared.providers.truust` infers.
"""

from typing import Any

import msgspec

from shared.providers.scenarios import (
    Demo,
    Fresh,
    Message,
    Scenario,
    Simulation,
    decimal,
    message,
    scenario,
    step,
)


class _Moment(msgspec.Struct, frozen=True):
    """The statuses at a notification; None if the body lacks that part."""

    escrow: str
    payin: str | None = None
    payout: str | None = None


_MOMENTS: dict[str, _Moment] = {
    "Order Published": _Moment("PUBLISHED", payin="CONFIRMED"),
    "Order Failed": _Moment("FAILURE", payin="FAILED"),
    "Order Accepted": _Moment("ACCEPTED", payin="CONFIRMED"),
    "Order Rejected": _Moment("REJECTED", payin="CONFIRMED"),
    "Order Cancelled": _Moment("CANCELLED", payin="CONFIRMED"),
    "Payout Created": _Moment("PENDING_RELEASE", payout="DRAFT"),
    "Order Released": _Moment("RELEASED", payout="RELEASED"),
    "PayinConfirmed": _Moment("PENDING_PUBLISH", payin="CONFIRMED"),
    "PayinEPGConfirmed": _Moment("PENDING_PUBLISH", payin="CONFIRMED"),
}

SCENARIOS = (
    scenario(
        "paid-and-released",
        "The order is paid, accepted, paid out and released.",
        *("Order Published", "Order Accepted", "Payout Created", "Order Released"),
    ),
    scenario(
        "confirmed-first",
        "The newer notification of a confirmed payment comes before the order's.",
        *("PayinConfirmed", "Order Published", "Order Accepted", "Payout Created", "Order Released"),
    ),
    scenario(
        "confirmed-by-gateway",
        "A confirmation by an external gateway, which only its name tells from the other.",
        *(step("PayinEPGConfirmed", named=True), "Order Published", "Order Accepted"),
        *("Payout Created", "Order Released"),
    ),
    scenario(
        "failed-and-retried",
        "The payment fails twice and succeeds the third time; each try is a payin of its own.",
        *("Order Failed", step("Order Failed", retry=True), step("Order Published", retry=True)),
        *("Order Accepted", "Payout Created", "Order Released"),
    ),
    scenario("failed", "The payment fails.", "Order Failed"),
    scenario("refused", "The seller rejects the paid order.", "Order Published", "Order Rejected"),
    scenario("cancelled", "The paid order is cancelled.", "Order Published", "Order Cancelled"),
)


def write(played: Scenario, fresh: Fresh) -> list[Message]:
    """Return the requests of a lifecycle."""
    order, payin, payout, card = fresh.number(9), fresh.number(9), fresh.number(9), fresh.number(8)
    cents = fresh.amount_minor()
    messages = []
    for each in played.steps:
        moment = _MOMENTS[each.event]
        if each.special.get("retry"):
            payin = fresh.number(9)
        escrow = {
            "id": str(order),
            "name": "A simulated order",
            "amount": decimal(cents),
            "currency": "EUR",
            "status": moment.escrow,
            "metadata": {},
            "auto_settled": "0",
        }
        body: dict[str, Any] = {"escrow": escrow, "platform": "simulated"}
        if each.special.get("named"):
            body["event"] = each.event
        if moment.payin:
            body["payin"] = _payin(order, payin, card, moment.payin, cents)
        if moment.payout:
            body["payout"] = {"id": payout, "escrow_id": order, "status": moment.payout}
        messages.append(message(each.event, body, fresh))
    return messages


def _payin(order: int, payin: int, card: int, status: str, cents: int) -> dict[str, Any]:
    failed = status == "FAILED"
    return {
        "id": payin,
        "reference_id": f"{payin:012}",
        "escrow_id": order,
        "card_id": card,
        "type": "REDSYS_APPLE_PAY",
        "status": status,
        "save_card": 1,
        "provider": {
            "Ds_Amount": str(cents),
            "Ds_Currency": "978",
            "Ds_Order": f"{payin:012}",
            "Ds_Response": "0190" if failed else "0000",
            "Ds_SecurePayment": "1",
            "Ds_CardNumber": "407980******7842",
            "Ds_ExpiryDate": "3111",
        },
        "card": {"id": card, "name": "407980******7842", "payin_type": "REDSYS_APPLE_PAY"},
    }


def _fresh(fresh: Fresh) -> dict[str, str]:
    payin = f'"id": {fresh.number(7)},\n    "reference_id"'
    return {"7654321": str(fresh.number(7)), '"id": 1234567,\n    "reference_id"': payin}


SIMULATION = Simulation(SCENARIOS, write, Demo('path_tokens = ["{secret}"]', ("EscrowPublished",), _fresh))
