"""Trustap's lifecycles: online (`basic_tx`), face to face (`p2p_tx`) and API v2 (`tx`).

Source: its webhooks page. What it does not show (v2, amounts after the payment, who acts) is as
`shared.providers.trustap` reads it.
"""

from collections.abc import Callable
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


def _of(family: str) -> Callable[..., Scenario]:
    """Return a maker of scenarios whose steps are codes of one family."""

    def make(name: str, about: str, *steps: str | Step) -> Scenario:
        whole = (each if isinstance(each, Step) else Step(each) for each in steps)
        return scenario(name, about, *(Step(f"{family}.{each.event}", each.special) for each in whole))

    return make


_online, _face, _v2 = _of("basic_tx"), _of("p2p_tx"), _of("tx")
_FAILED = step("payment_failed", failure_code="card_declined")
_DEPOSIT_FAILED = step("deposit_payment_failed", failure_code="insufficient_funds")

SCENARIOS = (
    _online(
        "online-settled",
        "Paid, shipped, delivered; the time for complaints passes and the funds are released.",
        *("joined", "paid", "tracked", "delivered", "complaint_period_ended", "funds_released"),
    ),
    _online(
        "online-claimed",
        "Guests claim the transaction: the buyer, then the seller.",
        *("joined", step("claimed", by="buyer"), step("claimed", by="seller"), "paid", "tracked"),
        *("delivered", "funds_released"),
    ),
    _online("online-refused", "The other party rejects it.", "joined", "rejected"),
    _online("online-cancelled", "It is cancelled before the payment.", "joined", "cancelled"),
    _online(
        "online-listing-accepted",
        "The seller of a listing accepts.",
        *("joined", "paid", "listing_transaction_accepted", "tracked", "delivered", "funds_released"),
    ),
    _online(
        "online-listing-refused",
        "The seller of a listing rejects, and the payment is refunded.",
        *("joined", "paid", "listing_transaction_rejected", "payment_refunded"),
    ),
    _online(
        "online-failed-and-retried",
        "Two payments fail, at different times, before one succeeds.",
        *("joined", _FAILED, _FAILED, "paid", "tracked", "delivered", "funds_released"),
    ),
    _online(
        "online-reviewed",
        "The payment is held for review, and passes.",
        *("joined", "payment_review_flagged", "payment_review_finished", "paid", "tracked", "delivered"),
        "funds_released",
    ),
    _online(
        "online-deadline-extended",
        "The deadline for tracking details is extended twice.",
        *("joined", "paid", *(("tracking_details_submission_deadline_extended",) * 2), "tracked"),
        *("delivered", "funds_released"),
    ),
    _online(
        "online-complained",
        "The buyer complains and is refunded in part; the rest is released.",
        *("joined", "paid", "tracked", "delivered", "complained", step("funds_refunded", half=True)),
        step("funds_released", half=True),
    ),
    _online("online-deposit-refunded", "A code seen in a plugin.", "joined", "paid", "deposit_refunded"),
    _face(
        "face-to-face-settled",
        "Deposit, price, remainder, handover by both, release.",
        *("joined", "deposit_paid", "deposit_accepted", "priced", "remainder_paid"),
        *("seller_handover_confirmed", "buyer_handover_confirmed", "funds_released"),
    ),
    _face(
        "face-to-face-remainder-skipped",
        "The remainder is paid in cash.",
        *("joined", "deposit_paid", "deposit_accepted", "priced", "remainder_skipped"),
        *("buyer_handover_confirmed", "seller_handover_confirmed", "funds_released"),
    ),
    _face(
        "face-to-face-claimed",
        "Guests claim the transaction: the buyer, then the seller.",
        *("joined", step("claimed", by="buyer"), step("claimed", by="seller")),
    ),
    _face("face-to-face-refused", "The other party rejects it.", "joined", "rejected"),
    _face("face-to-face-cancelled", "It is cancelled.", "joined", "cancelled"),
    _face(
        "face-to-face-failed-and-retried",
        "The deposit fails, at different times, before it is paid.",
        *("joined", _DEPOSIT_FAILED, _DEPOSIT_FAILED, "deposit_paid", "deposit_accepted"),
    ),
    _face(
        "face-to-face-deposit-refunded",
        "The seller does not accept the deposit.",
        *("joined", "deposit_paid", "deposit_refunded", "cancelled"),
    ),
    _face(
        "face-to-face-reviewed",
        "Deposit and remainder are each held for review.",
        *("joined", "deposit_review_flagged", "deposit_review_finished", "deposit_paid"),
        *("deposit_accepted", "priced", "remainder_review_flagged", "remainder_review_finished"),
        *("remainder_paid", "seller_handover_confirmed", "buyer_handover_confirmed", "funds_released"),
    ),
    _face(
        "face-to-face-complained",
        "The buyer complains after the handover and is refunded.",
        *("joined", "deposit_paid", "deposit_accepted", "priced", "remainder_paid"),
        *("seller_handover_confirmed", "complained", "funds_refunded"),
    ),
    _v2(
        "v2-settled",
        "Paid, accepted, shipped, delivered, released.",
        *(step("claimed", by="buyer"), "paid", "payment_accepted", "tracked", "delivered"),
        "funds_released",
    ),
    _v2(
        "v2-handed-over",
        "Paid and handed over in person.",
        *("paid", "payment_accepted", "handover_confirmed", "funds_released"),
    ),
    _v2(
        "v2-failed-and-retried",
        "A payment fails, is tried again, reviewed and accepted.",
        *(_FAILED, _FAILED, "paid", "payment_review_flagged", "payment_accepted"),
    ),
    _v2(
        "v2-complained",
        "The buyer complains; a refund is issued and arrives.",
        *("paid", "payment_accepted", "tracked", "complained", "refund_issued", "funds_refunded"),
    ),
    _v2("v2-cancelled", "It is cancelled before the payment.", "cancelled"),
)

_ACTORS = {
    **dict.fromkeys(("joined", "paid", "deposit_paid", "remainder_paid", "remainder_skipped"), "buyer"),
    **dict.fromkeys(("payment_failed", "deposit_payment_failed", "complained", "cancelled"), "buyer"),
    **dict.fromkeys(("tracked", "deposit_accepted", "priced", "payment_accepted", "rejected"), "seller"),
    "buyer_handover_confirmed": "buyer",
    "seller_handover_confirmed": "seller",
}
"""Who did it; whatever is not here Trustap's own system did."""

_TIME_DIGITS = {"basic_tx": 9, "p2p_tx": 3, "tx": 0}
_REFUNDS = frozenset({"payment_refunded", "funds_refunded", "refund_issued"})


def write(played: Scenario, fresh: Fresh) -> list[Message]:
    """Return the requests of a lifecycle."""
    transaction = _Transaction(played.steps[0].event.partition(".")[0], fresh)
    return [message(each.event, transaction.body(each), fresh) for each in played.steps]


class _Transaction:
    """One transaction's ids and prices, and what has happened to it."""

    def __init__(self, family: str, fresh: Fresh) -> None:
        self.family = family
        self.fresh = fresh
        self.number = fresh.number(9)
        self.id = f"tx_01k{fresh.base32(22)}" if family == "tx" else str(self.number)
        self.people = {role: f"1-{fresh.uuid()}" for role in ("buyer", "seller")}
        self.price = fresh.amount_minor()
        self.created = self.now()
        self.happened: list[str] = []

    def now(self) -> str:
        return self.fresh.later(_TIME_DIGITS[self.family])

    def body(self, each: Step) -> dict[str, Any]:
        happening = each.event.partition(".")[2]
        self.happened.append(happening)
        amount = self.price // 2 if each.special.get("half") else self.price
        user = self.people.get(each.special.get("by") or _ACTORS.get(happening, ""))
        preview = self.preview(happening, amount)
        body: dict[str, Any] = {"code": each.event}
        if user or self.family == "basic_tx":
            body["user_id"] = user  # the system's doings: null in one sample, said to be left out elsewhere
        body |= {"target_id": self.id, "target_preview": preview, "time": self.now()}
        failure = each.special.get("failure_code")
        return body | {"metadata": {"failure_code": failure} if failure else {}}

    def preview(self, happening: str, amount: int) -> dict[str, Any]:
        settled = {}
        if happening in _REFUNDS:
            settled["amount_refunded"] = amount
        if happening == "funds_released":
            settled["amount_released"] = amount
        preview: dict[str, Any] = {"id": self.id if self.family == "tx" else self.number, "status": happening}
        preview |= getattr(self, f"_{self.family}")()
        preview |= {"description": "A simulated transaction", "created": self.created, **settled}
        if "tracked" in self.happened:
            preview["tracking"] = {"carrier": "anpost", "tracking_code": f"CE{self.number}IE"}
        if "complained" in self.happened:
            preview["complaint"] = {"description": "It is not what was described"}
        return preview

    def _basic_tx(self) -> dict[str, Any]:
        price = {"currency": "gbp", "quantity": 1, "price": self.price, "charge": 640, "charge_seller": 0}
        return price | {"is_payment_in_progress": False, **self._ids()}

    def _p2p_tx(self) -> dict[str, Any]:
        deposit = {"price": self.price // 10 or 1, "charge": 78}
        preview = {"currency": "eur", "deposit_pricing": deposit, **self._ids()}
        if "priced" in self.happened:
            preview["pricing"] = {"price": self.price, "charge": 640}
        return preview | {"skip_remainder": "remainder_skipped" in self.happened}

    def _tx(self) -> dict[str, Any]:
        pricing = {"amount": self.price, "currency": "eur", "fees": []}
        return {"pricing": pricing} | {
            role: {"id": person, "is_guest": True} for role, person in self.people.items()
        }

    def _ids(self) -> dict[str, str]:
        return {f"{role}_id": person for role, person in self.people.items()}


def _fresh(fresh: Fresh) -> dict[str, str]:
    return {
        "25992": str(fresh.number(8)),
        "1309": str(fresh.number(8)),
        "2025-04-09T10:08:41.905612674Z": fresh.later(9),
        '"time": "2025-12-25T10:00:00.000Z"': f'"time": "{fresh.later(3)}"',
    }


SIMULATION = Simulation(
    SCENARIOS,
    write,
    Demo(
        'username = "headrace"\npasswords = ["{secret}"]',
        ("basic_tx-joined", "p2p_tx-joined"),
        _fresh,
    ),
)
