"""Trustap: Basic credentials, codes of three families, money in minor units, repeats that are real."""

from typing import Any

import pytest

from shared.errors import NoSuchSource, NotVerified, Unreadable
from shared.event.canonical import DedupeKey, Money
from shared.event.types import STATUS_OF
from shared.providers.base import Verdict
from shared.providers.trustap import TYPES
from tests.unit.sources import basic, read, request, sample, source

TABLE = {
    "transaction.joined": "basic_tx.joined p2p_tx.joined",
    "transaction.claimed": "basic_tx.claimed p2p_tx.claimed tx.claimed",
    "transaction.accepted": "basic_tx.listing_transaction_accepted",
    "transaction.rejected": "basic_tx.rejected p2p_tx.rejected basic_tx.listing_transaction_rejected",
    "transaction.cancelled": "basic_tx.cancelled p2p_tx.cancelled tx.cancelled",
    "transaction.priced": "p2p_tx.priced",
    "payment.received": "basic_tx.paid p2p_tx.deposit_paid p2p_tx.remainder_paid tx.paid",
    "payment.failed": "basic_tx.payment_failed p2p_tx.deposit_payment_failed tx.payment_failed",
    "payment.accepted": "p2p_tx.deposit_accepted tx.payment_accepted",
    "payment.skipped": "p2p_tx.remainder_skipped",
    "payment.review_flagged": "basic_tx.payment_review_flagged p2p_tx.deposit_review_flagged"
    " p2p_tx.remainder_review_flagged tx.payment_review_flagged",
    "payment.review_finished": "basic_tx.payment_review_finished p2p_tx.deposit_review_finished"
    " p2p_tx.remainder_review_finished",
    "payment.refund_issued": "tx.refund_issued",
    "payment.refunded": "basic_tx.payment_refunded basic_tx.deposit_refunded p2p_tx.deposit_refunded"
    " basic_tx.funds_refunded p2p_tx.funds_refunded tx.funds_refunded",
    "payout.released": "basic_tx.funds_released p2p_tx.funds_released tx.funds_released",
    "fulfilment.deadline_extended": "basic_tx.tracking_details_submission_deadline_extended",
    "fulfilment.shipped": "basic_tx.tracked tx.tracked",
    "fulfilment.delivered": "basic_tx.delivered tx.delivered",
    "fulfilment.handover_confirmed": "p2p_tx.buyer_handover_confirmed p2p_tx.seller_handover_confirmed"
    " tx.handover_confirmed",
    "dispute.raised": "basic_tx.complained p2p_tx.complained tx.complained",
    "dispute.window_closed": "basic_tx.complaint_period_ended",
}
ROWS = [(code, canonical) for canonical, codes in TABLE.items() for code in codes.split()]
TIME = "2025-04-09T10:08:41.905612674Z"
TRUSTAP = source("trustap")


def event_body(code: str, **preview: Any) -> dict[str, Any]:
    return {"code": code, "target_id": "7", "time": TIME, "target_preview": {"currency": "gbp"} | preview}


@pytest.mark.parametrize(("code", "canonical"), ROWS)
def test_a_code_means_its_canonical_type(code: str, canonical: str) -> None:
    event = read(TRUSTAP, event_body(code))
    assert (event.type, event.provider_event) == (canonical, code)
    assert event.subject == event.transaction_id == f"{code.partition('.')[0]}/7"
    assert event.dedupe == DedupeKey((code, "7", TIME))
    assert canonical in STATUS_OF


@pytest.mark.case(n=55)
@pytest.mark.parametrize("family", ["basic_tx", "p2p_tx", "tx"])
def test_what_buyer_and_seller_do_in_one_second_is_two_events(family: str) -> None:
    claimed = event_body(f"{family}.claimed")
    keys = [read(TRUSTAP, claimed | {"user_id": user}).dedupe for user in ("buyer-1", "seller-1", 7, None)]
    assert len(set(keys)) == 4
    assert keys[0] == read(TRUSTAP, claimed | {"user_id": "buyer-1", "metadata": {}}).dedupe
    assert keys[3] == read(TRUSTAP, claimed).dedupe, "of an event that nobody caused, as ever"


def test_no_code_is_missing_from_the_table_above() -> None:
    assert dict(ROWS) == TYPES
    assert len(ROWS) == 18 + 1 + 20 + 13


def test_the_online_sample_is_read_whole() -> None:
    event = read(TRUSTAP, sample("trustap/basic_tx-joined"))
    assert event.time == event.occurred_at == TIME
    assert event.money == Money(20000, "GBP")
    assert event.parties == {
        "buyer": "1-8f48bf31-a291-4bc8-8fc8-9e4eb482fe12",
        "seller": "1-c6381146-9374-412d-9a44-4ee4386eb69a",
    }
    assert (event.provider_status, event.payment_id, event.details) == ("joined", None, {})


def test_the_face_to_face_sample_names_its_actor() -> None:
    event = read(TRUSTAP, sample("trustap/p2p_tx-joined"))
    assert event.details == {"actor": "feb33a87-3917-4538-9260-127c8a6b5232"}
    assert event.money is None


def test_v2_is_read_with_its_own_names() -> None:
    event = read(
        TRUSTAP,
        event_body(
            "tx.paid",
            currency=None,
            pricing={"amount": 5000, "currency": "eur", "fees": 10},
            buyer={"id": "b-1", "is_guest": True},
            seller={"id": "s-1", "is_guest": False},
        )
        | {"target_id": "tx_01k"},
    )
    assert event.transaction_id == "tx/tx_01k"
    assert event.parties == {"buyer": "b-1", "seller": "s-1"}
    assert event.money == Money(5000, "EUR")


PRICES = {
    "price": 1,
    "amount_released": 2,
    "amount_refunded": 3,
    "deposit_pricing": {"price": 4},
    "pricing": {"price": 5, "amount": 6},
}


@pytest.mark.parametrize(
    ("code", "amount"),
    [
        ("basic_tx.paid", 1),
        ("p2p_tx.joined", 1),
        ("p2p_tx.complained", 1),
        ("basic_tx.funds_released", 2),
        ("tx.funds_released", 2),
        ("basic_tx.payment_refunded", 3),
        ("p2p_tx.funds_refunded", 3),
        ("tx.refund_issued", 3),
        ("p2p_tx.deposit_paid", 4),
        ("p2p_tx.deposit_refunded", 4),
        ("basic_tx.deposit_refunded", 4),
        ("p2p_tx.priced", 5),
        ("tx.paid", 6),
        ("p2p_tx.remainder_paid", None),
        ("p2p_tx.remainder_skipped", None),
    ],
)
def test_each_code_takes_its_amount_from_its_own_field(code: str, amount: int | None) -> None:
    assert read(TRUSTAP, event_body(code, **PRICES)).money == (Money(amount, "GBP") if amount else None)


@pytest.mark.parametrize(
    "code", ["basic_tx.funds_released", "basic_tx.payment_refunded", "p2p_tx.deposit_paid"]
)
def test_a_missing_amount_is_never_stood_in_for_by_the_price(code: str) -> None:
    assert read(TRUSTAP, event_body(code, price=1)).money is None


@pytest.mark.parametrize(
    ("preview", "code"),
    [
        ({"price": "20000"}, "bad-amount"),
        ({"price": 0.5}, "bad-amount"),
        ({"price": 10**20}, "bad-amount"),
        ({"price": 1, "currency": "zzz"}, "unknown-currency"),
        ({"price": 1, "currency": None}, "unknown-currency"),
    ],
)
def test_an_amount_that_cannot_be_read_is_quarantined(preview: dict[str, Any], code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(TRUSTAP, event_body("basic_tx.paid", **preview))
    assert caught.value.code == code


def test_the_details_hold_what_only_trustap_says() -> None:
    body = event_body("basic_tx.tracked", tracking={"carrier": "DHL", "tracking_code": "JD01"})
    assert read(TRUSTAP, body).details == {"tracking": {"carrier": "DHL", "code": "JD01"}}
    body = event_body("basic_tx.complained", complaint={"description": "never came"})
    assert read(TRUSTAP, body).details == {"reason": "never came"}
    body = event_body("basic_tx.payment_failed") | {"metadata": {"failure_code": "card_declined"}}
    assert read(TRUSTAP, body).details == {"failure_code": "card_declined"}


@pytest.mark.parametrize(
    ("code", "by"),
    [
        ("p2p_tx.buyer_handover_confirmed", "buyer"),
        ("p2p_tx.seller_handover_confirmed", "seller"),
        ("tx.handover_confirmed", None),
    ],
)
def test_a_handover_says_who_confirmed_it(code: str, by: str | None) -> None:
    assert read(TRUSTAP, event_body(code)).details == {"by": by}


@pytest.mark.parametrize("user", [{}, {"user_id": None}])
def test_a_system_event_has_no_actor(user: dict[str, None]) -> None:
    assert "actor" not in read(TRUSTAP, event_body("basic_tx.funds_released") | user).details


def test_a_repeat_at_another_time_is_another_event() -> None:
    first = read(TRUSTAP, event_body("basic_tx.payment_failed"))
    second = read(TRUSTAP, event_body("basic_tx.payment_failed") | {"time": "2025-04-09T10:08:42Z"})
    assert first.dedupe != second.dedupe


def test_one_id_in_two_families_is_two_transactions() -> None:
    online, face_to_face = (
        read(TRUSTAP, event_body(f"{family}.joined")) for family in ("basic_tx", "p2p_tx")
    )
    assert online.transaction_id != face_to_face.transaction_id
    assert online.dedupe != face_to_face.dedupe


@pytest.mark.parametrize(
    "missing", [{"time": None}, {"time": 5}, {"time": ""}, {"target_id": None}, {"target_id": 1.5}]
)
def test_without_an_identifying_field_there_is_no_key(missing: dict[str, Any]) -> None:
    event = read(TRUSTAP, event_body("basic_tx.paid") | missing)
    assert (event.type, event.dedupe) == ("payment.received", None)


def test_a_time_that_is_none_is_kept_as_said_and_not_passed_on() -> None:
    event = read(TRUSTAP, event_body("basic_tx.paid") | {"time": "this morning"})
    assert (event.occurred_at, event.time) == ("this morning", None)
    assert event.dedupe == DedupeKey(("basic_tx.paid", "7", "this morning"))


@pytest.mark.parametrize(
    ("code", "transaction"),
    [
        ("basic_tx.exploded", "basic_tx/7"),
        ("user.created", None),
        ("basic_tx", "basic_tx/7"),
        ("", None),
        (5, None),
    ],
)
def test_an_unknown_code_is_kept_without_reading_its_money(code: Any, transaction: str | None) -> None:
    event = read(TRUSTAP, event_body(code, price="odd"))
    assert (event.type, event.dedupe, event.money) == ("provider.unknown", None, None)
    assert event.provider_event == (code if isinstance(code, str) and code else None)
    assert event.transaction_id == transaction


@pytest.mark.parametrize(
    "preview", [None, [], "x", {"buyer_id": [], "buyer": 5, "status": {}, "tracking": [1]}]
)
def test_odd_types_in_optional_places_count_as_absent(preview: Any) -> None:
    event = read(TRUSTAP, {"code": "basic_tx.paid", "target_id": 7, "time": TIME, "target_preview": preview})
    assert (event.parties, event.money, event.details, event.provider_status) == ({}, None, {}, None)
    assert event.dedupe == DedupeKey(("basic_tx.paid", "7", TIME))


@pytest.mark.parametrize("pair", ["headrace:old-pässword", "headrace:new"])
def test_either_password_is_accepted(pair: str) -> None:
    assert TRUSTAP.verify(request(basic(pair))) is Verdict.STORE


def test_the_scheme_is_case_insensitive_and_a_password_may_hold_colons() -> None:
    adapter = source("trustap", passwords=["a:b"])
    name, value = basic("headrace:a:b")
    assert adapter.verify(request((name, value.replace(b"Basic", b"bAsIc")))) is Verdict.STORE


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Basic")],
        [(b"authorization", b"Basic !!!!")],
        [(b"authorization", b"Basic aGVhZHJhY2U6bmV3=garbage")],
        [(b"authorization", b"Basic \xff\xfe")],
        [(b"authorization", b"Bearer aGVhZHJhY2U6bmV3")],
        [basic("headrace")],
        [basic("headracenew")],
        [basic("headrace:wrong")],
        [basic("other:new")],
        [basic(":new")],
        [basic("headrace:")],
        [basic(b"headrace:\xff\xff")],
        [basic("headrace:" + "x" * 60_000)],
        [basic("headrace:new"), basic("headrace:new")],
        [basic("headrace:new"), basic("headrace:wrong")],
    ],
)
def test_anything_but_the_one_right_header_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(NotVerified):
        TRUSTAP.verify(request(*headers))


def test_its_path_takes_no_token() -> None:
    assert TRUSTAP.paths() == ["trustap-1"]
    with pytest.raises(NoSuchSource):
        TRUSTAP.verify(request(basic("headrace:new"), token="x"))
