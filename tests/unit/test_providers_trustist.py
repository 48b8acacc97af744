"""TrustistTransfer: the path token, partner and merchant hooks, decimal amounts without a currency."""

from typing import Any

import msgspec
import pytest

from shared.errors import NoSuchSource, Unreadable
from shared.event.canonical import DedupeKey, Money
from shared.event.types import STATUS_OF
from shared.providers.base import Verdict
from shared.providers.trustist import TYPES
from tests.unit.sources import read, request, sample, source

PARTNER_ROWS = [
    ("InvitationStatusChanged", "OPENED", "invitation.opened"),
    ("InvitationStatusChanged", "COMPLETE", "invitation.completed"),
    ("PaymentStatusChanged", "PENDING", "payment.pending"),
    ("PaymentStatusChanged", "COMPLETE", "payment.completed"),
    ("PaymentStatusChanged", "FAILED", "payment.failed"),
]
MERCHANT_ROWS = [
    ("payment.created", "PENDING", "payment.pending"),
    ("payment.created", "CREATED", "payment.pending"),
    ("payment.created", None, "payment.pending"),
    ("payment.completed", "COMPLETED", "payment.completed"),
    ("payment.completed", "COMPLETE", "payment.completed"),
    ("payment.completed", None, "payment.completed"),
    ("payment.failed", "FAILED", "payment.failed"),
    ("payment.failed", None, "payment.failed"),
]
CREATED = "2026-03-02T11:30:00.9876543Z"
MERCHANT = {
    "eventType": "payment.completed",
    "merchantId": "mch_1",
    "paymentId": "pmt_1",
    "orgId": "org_1",
    "created": "2025-10-21T14:30:00Z",
    "status": "COMPLETED",
    "amount": 150.00,
    "currency": "EUR",
    "reference": "ORDER-1",
}
TRUSTIST = source("trustist")


@pytest.mark.parametrize(("kind", "status", "canonical"), PARTNER_ROWS)
def test_a_partner_event_means_its_canonical_type(kind: str, status: str, canonical: str) -> None:
    event = read(TRUSTIST, sample(f"trustist/{kind}-{status}"))
    assert (event.type, event.provider_event, event.provider_status) == (canonical, kind, status)
    assert event.dedupe == DedupeKey((kind, str(event.subject), status))
    assert canonical in STATUS_OF


@pytest.mark.parametrize(("kind", "status", "canonical"), MERCHANT_ROWS)
def test_a_merchant_event_means_its_canonical_type(kind: str, status: str | None, canonical: str) -> None:
    event = read(TRUSTIST, MERCHANT | {"eventType": kind, "status": status})
    assert (event.type, event.provider_event, event.provider_status) == (canonical, kind, status)
    assert event.dedupe == (DedupeKey((kind, "pmt_1", status)) if status else None)


def test_every_row_of_the_mapping_stands_above() -> None:
    aliases = {"CREATED": "PENDING", "COMPLETED": "COMPLETE"}
    rows = PARTNER_ROWS + MERCHANT_ROWS
    assert {(kind, aliases.get(status or "", status)): canonical for kind, status, canonical in rows} == TYPES


def test_an_invitation_has_a_subject_and_no_transaction() -> None:
    event = read(TRUSTIST, sample("trustist/InvitationStatusChanged-COMPLETE"))
    assert event.subject == "3f2b8c1e-5d7a-4c7e-9a43-0d6f1b2c9e10"
    assert (event.transaction_id, event.payment_id, event.money) == (None, None, None)
    assert event.time == event.occurred_at == "2026-03-02T10:01:44.0000001Z"
    assert event.parties == {"merchant": "M-20417"}


@pytest.mark.parametrize(("status", "time"), [("PENDING", CREATED), ("COMPLETE", None), ("FAILED", None)])
def test_a_payments_creation_is_the_time_of_its_first_event_only(status: str, time: str | None) -> None:
    event = read(TRUSTIST, sample(f"trustist/PaymentStatusChanged-{status}"))
    assert event.time == event.occurred_at == time
    assert event.details == {"payment_created": CREATED}


def test_an_amount_is_read_exactly_in_the_sources_currency() -> None:
    event = read(TRUSTIST, sample("trustist/PaymentStatusChanged-PENDING"))
    assert event.money == Money(104910, "GBP")
    assert event.subject == event.transaction_id == event.payment_id == "P-88310"


def test_a_merchant_event_brings_its_own_currency_and_reference() -> None:
    event = read(TRUSTIST, MERCHANT)
    assert event.money == Money(15000, "EUR")
    assert event.parties == {"merchant": "mch_1"}
    assert event.details == {
        "payment_created": "2025-10-21T14:30:00Z",
        "organisation": "org_1",
        "reference": "ORDER-1",
    }


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"amount": 1049.105}, "bad-amount"),
        ({"amount": "a lot"}, "bad-amount"),
        ({"amount": []}, "bad-amount"),
        ({"amount": True}, "bad-amount"),
        ({"currency": "ZZZ"}, "unknown-currency"),
        ({"currency": 826}, "unknown-currency"),
    ],
)
def test_an_amount_that_cannot_be_read_is_quarantined(change: dict[str, Any], code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(TRUSTIST, sample("trustist/PaymentStatusChanged-PENDING") | change)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"eventType": "standing_order.created"},
        {"eventType": None},
        {"eventType": 5},
        {"status": "PAUSED"},
        {"status": None},
        {"eventType": "payment.completed", "status": "FAILED"},
        {"eventType": "paymentstatuschanged"},
    ],
)
def test_an_unknown_event_is_kept_without_reading_its_money(change: dict[str, Any]) -> None:
    event = read(TRUSTIST, sample("trustist/PaymentStatusChanged-COMPLETE") | {"amount": "odd"} | change)
    assert (event.type, event.dedupe, event.money) == ("provider.unknown", None, None)
    assert event.subject == "P-88310"


@pytest.mark.parametrize("odd", [None, "", 1.5, [], {}])
def test_without_an_identifying_field_there_is_no_key(odd: Any) -> None:
    assert read(TRUSTIST, sample("trustist/PaymentStatusChanged-FAILED") | {"paymentId": odd}).dedupe is None
    opened = sample("trustist/InvitationStatusChanged-OPENED")
    assert read(TRUSTIST, opened | {"invitationId": odd}).dedupe is None


def test_each_token_is_a_path() -> None:
    assert TRUSTIST.paths() == ["trustist-1/tok-1", "trustist-1/tok-2"]
    assert TRUSTIST.verify(request(token="tok-2")) is Verdict.STORE


@pytest.mark.parametrize("token", [None, "", "tok-", "tok-3", "tök-1", "\udcff", "tok-1/tok-2"])
def test_a_wrong_path_is_no_source(token: str | None) -> None:
    with pytest.raises(NoSuchSource):
        TRUSTIST.verify(request(token=token))


@pytest.mark.parametrize("currency", ["XAU", "ZZZ", "pounds", "", "£"])
def test_a_currency_without_minor_units_stops_the_start(currency: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="`currency`"):
        source("trustist", currency=currency)


@pytest.mark.parametrize("token", ["a/b", "a b", "tök", "..", "a?b", "a%2Fb"])
def test_a_token_that_is_no_path_segment_stops_the_start_and_stays_secret(token: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="`path_tokens`") as caught:
        source("trustist", path_tokens=[f"canary{token}" if token != ".." else token])
    assert "canary" not in str(caught.value)
