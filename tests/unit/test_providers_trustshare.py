"""trustshare: the shared secret, the handshake, keys without an event id, disputes that come twice."""

from typing import Any

import pytest

from shared.errors import NoSuchSource, NotVerified, Unreadable
from shared.event.canonical import DedupeKey, Money
from shared.event.types import STATUS_OF
from shared.providers.base import Verdict
from shared.providers.trustshare import TYPES
from tests.unit.sources import read, request, sample, source

ROWS = {
    "transaction_initiated": "transaction.initiated",
    "transaction_abandoned": "transaction.abandoned",
    "transaction_complete": "transaction.completed",
    "payment_settling": "payment.pending",
    "payment_received": "payment.received",
    "payment_paused": "payment.paused",
    "payment_returned": "payment.refunded",
    "payment_released": "payout.released",
    "dispute_raised": "dispute.raised",
    "dispute_resolved": "dispute.resolved",
    "handshake": "source.handshake",
}
TOKEN = "5CIXLExTtrIE8387"
PARTIES = {"buyer": "buyer@example.com", "seller": "seller@example.com"}
TRUSTSHARE = source("trustshare")
HANDSHAKE = b'{"type":"handshake"}'


@pytest.mark.parametrize(("kind", "canonical"), ROWS.items())
def test_a_type_means_its_canonical_type(kind: str, canonical: str) -> None:
    event = read(TRUSTSHARE, sample(f"trustshare/{kind}"))
    assert (event.type, event.provider_event) == (canonical, kind)
    assert (event.time, event.occurred_at, event.provider_status) == (None, None, None)
    assert canonical in STATUS_OF
    if kind != "handshake":
        assert event.subject == event.transaction_id == TOKEN
        assert event.parties == PARTIES


def test_no_type_is_missing_from_the_table_above() -> None:
    assert ROWS == TYPES


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("transaction_initiated", ("transaction_initiated", TOKEN)),
        ("transaction_complete", ("transaction_complete", TOKEN)),
        ("payment_received", ("payment_received", "f79L9CBt3NuyEEap")),
        ("payment_settling", ("payment_settling", "oXkIwJcxE3S3Z8BX")),
        ("payment_paused", ("payment_paused", "f79L9CBt3NuyEEap", "inbound_payments_pending")),
    ],
)
def test_the_key_is_the_type_and_what_identifies_it(kind: str, key: tuple[str, ...]) -> None:
    assert read(TRUSTSHARE, sample(f"trustshare/{kind}")).dedupe == DedupeKey(key)


def test_a_dispute_counts_its_counterpart_and_raises_its_own_counter() -> None:
    raised, resolved = (
        read(TRUSTSHARE, sample(f"trustshare/dispute_{kind}")) for kind in ("raised", "resolved")
    )
    assert raised.dedupe == DedupeKey(
        ("dispute_raised", TOKEN), counts=f"dispute_resolved:{TOKEN}", raises=f"dispute_raised:{TOKEN}"
    )
    assert resolved.dedupe == DedupeKey(
        ("dispute_resolved", TOKEN), counts=f"dispute_raised:{TOKEN}", raises=f"dispute_resolved:{TOKEN}"
    )


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("transaction_initiated", "token"),
        ("payment_received", "paymentToken"),
        ("payment_paused", "reason"),
        ("dispute_raised", "token"),
    ],
)
@pytest.mark.parametrize("value", [None, "", [], 1.5, True, "a\r\nb", "x" * 10_000])
def test_without_an_identifying_field_there_is_no_key(kind: str, field: str, value: Any) -> None:
    event = read(TRUSTSHARE, sample(f"trustshare/{kind}") | {field: value})
    assert (event.type, event.dedupe) == (ROWS[kind], None)


@pytest.mark.parametrize(
    ("kind", "amount", "balance"),
    [
        ("payment_received", 150000, 150000),
        ("payment_settling", 15000, 0),
        ("transaction_initiated", 150000, 0),
        ("transaction_complete", 150000, 0),
        ("transaction_abandoned", None, 0),
        ("dispute_raised", None, None),
    ],
)
def test_the_amount_stands_beside_the_balance(kind: str, amount: int | None, balance: int | None) -> None:
    event = read(TRUSTSHARE, sample(f"trustshare/{kind}"))
    assert event.money == (None if amount is None else Money(amount, "GBP"))
    assert event.details.get("balance") == (
        None if balance is None else {"amount_minor": balance, "currency": "GBP"}
    )


def test_the_details_hold_what_only_trustshare_says() -> None:
    event = read(TRUSTSHARE, sample("trustshare/payment_paused"))
    assert event.payment_id == "f79L9CBt3NuyEEap"
    assert event.details == {
        "balance": {"amount_minor": 150000, "currency": "GBP"},
        "verification": {"buyer": "verified", "seller": "unverified"},
        "payment_type": "release",
        "reason": "inbound_payments_pending",
    }


@pytest.mark.parametrize("absent", ["description", "balance", "verification", "from", "to", "amount"])
def test_an_optional_field_may_be_absent_null_or_odd(absent: str) -> None:
    body = sample("trustshare/payment_received")
    read(TRUSTSHARE, {key: value for key, value in body.items() if key != absent})
    read(TRUSTSHARE, body | {absent: None})
    if absent not in {"balance", "amount"}:
        read(TRUSTSHARE, body | {absent: [1]})


@pytest.mark.parametrize("field", ["amount", "balance"])
@pytest.mark.parametrize("value", ["150000", 1.5, [], {}, False, 2**70])
def test_an_amount_that_cannot_be_read_is_quarantined(field: str, value: Any) -> None:
    with pytest.raises(Unreadable, match="bad-amount"):
        read(TRUSTSHARE, sample("trustshare/payment_received") | {field: value})


def test_an_event_of_the_newer_api_is_known_by_its_id() -> None:
    event = read(TRUSTSHARE, {"id": "wh_evt_1", "type": "intent_confirmed", "payload": {"amount": "odd"}})
    assert (event.type, event.provider_event) == ("provider.unknown", "intent_confirmed")
    assert event.dedupe == DedupeKey(("wh_evt_1",))


def test_a_known_type_of_the_newer_api_is_read_from_its_payload() -> None:
    plain = sample("trustshare/payment_received")
    event = read(TRUSTSHARE, {"id": "wh_evt_2", "type": "payment_received", "payload": plain})
    assert (event.type, event.transaction_id, event.money) == (
        "payment.received",
        TOKEN,
        Money(150000, "GBP"),
    )
    assert event.parties == PARTIES
    assert event.dedupe == DedupeKey(("wh_evt_2",))


@pytest.mark.parametrize("kind", ["payment_exploded", None, 5, [], ""])
def test_an_unknown_type_is_kept_without_reading_its_money(kind: Any) -> None:
    event = read(
        TRUSTSHARE,
        sample("trustshare/payment_received") | {"type": kind, "amount": "odd", "balance": []},
    )
    assert (event.type, event.dedupe, event.money) == ("provider.unknown", None, None)
    assert event.provider_event == (kind if kind == "payment_exploded" else None)
    assert event.transaction_id == TOKEN


SECRET = (b"x-trustshare-secret", b"s3cret-2")
WRONG = (b"x-trustshare-secret", b"wrong")


@pytest.mark.parametrize("secret", [b"s3cret-1", b"s3cret-2"])
def test_either_secret_is_accepted(secret: bytes) -> None:
    assert TRUSTSHARE.verify(request((b"x-trustshare-secret", secret))) is Verdict.STORE


@pytest.mark.parametrize("body", [HANDSHAKE, b' { "type"\t:\r\n"handshake" } ', b'{"type": "handshake"}\n'])
def test_a_bare_handshake_is_answered_and_not_kept(body: bytes) -> None:
    assert TRUSTSHARE.verify(request(body=body)) is Verdict.ANSWER_ONLY


def test_a_handshake_with_the_secret_is_an_event() -> None:
    assert TRUSTSHARE.verify(request(SECRET, body=HANDSHAKE)) is Verdict.STORE


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], b'{"type":"payment_received"}'),
        ([], b'{"type":"handshake","token":"x"}'),
        ([], b'{"ty pe":"handshake"}'),
        ([], b'{"type":"hand shake"}'),
        ([], b'{"type":"handshake"}{}'),
        ([], b'\xc2\xa0{"type":"handshake"}'),
        ([], b""),
        ([WRONG], b"{}"),
        ([WRONG], HANDSHAKE),
        ([(b"x-trustshare-secret", b"")], HANDSHAKE),
        ([(b"x-trustshare-secret", b"\xff")], b"{}"),
        ([SECRET, SECRET], b"{}"),
        ([SECRET, WRONG], HANDSHAKE),
    ],
)
def test_anything_else_is_refused(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    with pytest.raises(NotVerified):
        TRUSTSHARE.verify(request(*headers, body=body))


def test_its_path_takes_no_token() -> None:
    assert TRUSTSHARE.paths() == ["trustshare-1"]
    with pytest.raises(NoSuchSource):
        TRUSTSHARE.verify(request(SECRET, token="x"))
