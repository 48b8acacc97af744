"""Truust: bodies that do not name their event, in whichever envelope; the binding that does."""

from typing import Any

import msgspec
import pytest

from shared.errors import NoSuchSource, Unreadable
from shared.event.canonical import DedupeKey, Money
from shared.event.types import STATUS_OF
from shared.providers.base import Verdict
from shared.providers.truust.notifications import ESCROW_STATUSES, TYPES, plain_name
from tests.unit.sources import SAMPLES, read, request, sample, source

ROWS = {
    "Order Published": "payment.received",
    "Order Failed": "payment.failed",
    "Order Accepted": "transaction.accepted",
    "Order Rejected": "transaction.rejected",
    "Order Cancelled": "transaction.cancelled",
    "Payout Created": "payout.created",
    "Order Released": "payout.released",
    "PayinConfirmed": "payment.confirmed",
    "PayinEPGConfirmed": "payment.confirmed",
}
PUBLISHED = sample("truust/EscrowPublished")
PUBLISHED_BYTES = SAMPLES["truust/EscrowPublished"]
TRUUST = source("truust")


def order(status: str | None, **more: Any) -> dict[str, Any]:
    return {"escrow": {"id": "7", "status": status}} | more


@pytest.mark.parametrize(("notification", "canonical"), ROWS.items())
def test_a_notification_means_its_canonical_type(notification: str, canonical: str) -> None:
    assert canonical in STATUS_OF
    named = read(TRUUST, {"event": notification} | order(None))
    bound = read(source("truust", event=notification), order(None))
    assert named.type == bound.type == canonical
    assert named.provider_event == bound.provider_event == notification
    assert not named.type_inferred
    assert not bound.type_inferred


def test_every_notification_stands_above_and_in_the_status_table() -> None:
    assert ROWS == TYPES
    assert ESCROW_STATUSES.keys() == TYPES.keys()


def test_the_published_sample_is_read_whole() -> None:
    event = read(TRUUST, PUBLISHED_BYTES)
    assert (event.type, event.provider_event, event.type_inferred) == (
        "payment.received",
        "Order Published",
        True,
    )
    assert event.subject == event.transaction_id == "7654321"
    assert (event.payment_id, event.provider_status) == ("1234567", "PUBLISHED")
    assert event.money == Money(999, "EUR")
    assert (event.time, event.occurred_at, event.parties) == (None, None, {})
    assert event.details == {"auto_settled": True, "payin_status": "CONFIRMED"}
    assert event.dedupe == DedupeKey(
        ("Order Published", "7654321", "PUBLISHED", "1234567", "CONFIRMED", "", "")
    )


@pytest.mark.parametrize(
    "name",
    [
        "Order Published",
        "EscrowPublished",
        "order.published",
        "ORDER_PUBLISHED",
        "order-published",
        "App\\Events\\EscrowPublished",
        " order  published ",
    ],
)
@pytest.mark.parametrize("key", ["event", "event_type", "eventType", "notification", "type"])
def test_a_name_in_the_body_is_known_in_all_its_spellings(name: str, key: str) -> None:
    event = read(TRUUST, PUBLISHED | {key: name})
    assert (event.type, event.provider_event, event.type_inferred) == ("payment.received", name, False)
    assert event.dedupe == read(TRUUST, PUBLISHED).dedupe


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("PayinEPGConfirmed", "payin_epg_confirmed"),
        ("EscrowCanceled", "order_cancelled"),
        ("FAILURE", "failed"),
        ("PENDING_RELEASE", "pending_release"),
        ("", ""),
    ],
)
def test_names_are_compared_in_plain_form(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_a_name_in_the_body_outranks_a_status() -> None:
    assert read(TRUUST, PUBLISHED | {"event": "Order Failed"}).type == "payment.failed"


@pytest.mark.parametrize(
    "where", [{"event": "Order Refunded"}, {"type": "Order Refunded"}, {"event": "refunded"}]
)
def test_a_name_that_is_not_known_is_kept_and_not_guessed_around(where: dict[str, str]) -> None:
    event = read(TRUUST, PUBLISHED | where)
    assert (event.type, event.provider_event) == ("provider.unknown", next(iter(where.values())))
    assert (event.type_inferred, event.dedupe, event.money) == (False, None, None)
    assert event.transaction_id == "7654321"


@pytest.mark.parametrize(
    "distraction",
    [
        {"type": "escrows"},
        {"type": "REDSYS_APPLE_PAY"},
        {"event": {"name": "Order Failed"}},
        {"event": 5},
        {"event": ""},
        {"payin": PUBLISHED["payin"] | {"type": "Order Failed"}},
        {"escrow": PUBLISHED["escrow"] | {"name": "Order Failed", "type": "Order Failed"}},
    ],
)
def test_what_is_no_event_name_is_not_taken_for_one(distraction: dict[str, Any]) -> None:
    event = read(TRUUST, PUBLISHED | distraction)
    assert (event.type, event.type_inferred) == ("payment.received", True)


@pytest.mark.parametrize(
    ("body", "notification"),
    [
        (order("PUBLISHED"), "Order Published"),
        (order("FAILURE"), "Order Failed"),
        (order("FAILED"), "Order Failed"),
        (order("ACCEPTED"), "Order Accepted"),
        (order("REJECTED"), "Order Rejected"),
        (order("CANCELLED"), "Order Cancelled"),
        (order("CANCELED"), "Order Cancelled"),
        (order("RELEASED"), "Order Released"),
        ({"order": {"id": 7, "status": "PUBLISHED"}}, "Order Published"),
        (order("ACCEPTED", payout={"id": 1}), "Payout Created"),
        (order("PENDING_RELEASE", payout={"id": 1, "status": "CREATED"}), "Payout Created"),
        (order("ACCEPTED", payout={"id": 1}, payin={"id": 2}), "Order Accepted"),
        (order("RELEASED", payout={"id": 1, "status": "CREATED"}), "Order Released"),
        ({"payout": {"id": 1, "status": "RELEASED"}}, "Order Released"),
        ({"payout": {"id": 1, "status": "LOST"}}, None),
        ({"payin": {"id": 2, "status": "CONFIRMED"}}, "PayinConfirmed"),
        ({"payin": {"id": 2, "status": "FAILED"}}, "Order Failed"),
        (order("PENDING_PUBLISH", payin={"id": 2, "status": "FAILED"}), "Order Failed"),
        (order("PENDING_PUBLISH"), None),
        (order(None), None),
        ({}, None),
    ],
)
def test_structure_and_status_tell_the_event_and_the_guess_is_flagged(
    body: dict[str, Any], notification: str | None
) -> None:
    event = read(TRUUST, body)
    assert event.type == (ROWS[notification] if notification else "provider.unknown")
    assert event.provider_event == notification
    assert event.type_inferred is (notification is not None)


@pytest.mark.parametrize(
    ("binding", "body"),
    [
        ("Order Published", PUBLISHED | {"event": "Order Failed"}),
        ("Order Published", PUBLISHED | {"type": "PayinConfirmed"}),
        ("Order Published", PUBLISHED | {"event": "Order Refunded"}),
        ("Order Failed", PUBLISHED),
        ("Order Accepted", PUBLISHED),
        ("Payout Created", PUBLISHED),
        ("Order Released", PUBLISHED),
        ("Order Published", order("FAILURE")),
        ("Order Published", order("released")),
        ("Order Published", order(None, payin={"id": 2, "status": "FAILED"})),
        ("Order Failed", order(None, payin={"id": 2, "status": "CONFIRMED"})),
    ],
)
def test_a_body_that_contradicts_the_binding_is_quarantined(binding: str, body: dict[str, Any]) -> None:
    with pytest.raises(Unreadable) as caught:
        read(source("truust", event=binding), body)
    assert caught.value.code == "binding-conflict"
    assert "Refunded" not in str(caught.value)


@pytest.mark.parametrize(
    ("binding", "body"),
    [
        ("Order Published", PUBLISHED),
        ("EscrowPublished", PUBLISHED | {"event": "Order Published"}),
        ("Order Published", PUBLISHED | {"type": "escrows"}),
        ("Order Published", order("SOMETHING_NEW")),
        ("PayinConfirmed", PUBLISHED),
        ("Order Accepted", order("PENDING_VALIDATE")),
        ("Payout Created", order("ACCEPTED", payout={"id": 1, "status": "NEW"})),
        ("Order Released", {"payout": {"id": 1}}),
    ],
)
def test_a_binding_that_nothing_contradicts_decides(binding: str, body: dict[str, Any]) -> None:
    event = read(source("truust", event=binding), body)
    assert event.type == next(ROWS[row] for row in ROWS if plain_name(row) == plain_name(binding))
    assert not event.type_inferred


@pytest.mark.parametrize("binding", ["", "Order", "Order Refunded", "payment.received"])
def test_a_binding_to_no_notification_stops_the_start(binding: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="`event`"):
        source("truust", event=binding)


def as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@pytest.mark.parametrize(
    "body",
    [
        as_json(PUBLISHED),
        as_json(as_json(PUBLISHED)),
        [PUBLISHED],
        as_json([PUBLISHED]),
        [as_json(PUBLISHED)],
        {"data": PUBLISHED},
        {"payload": PUBLISHED},
        {"payload": as_json(PUBLISHED)},
        {"data": [PUBLISHED]},
        {"data": {"type": "escrows", "id": "1", "attributes": PUBLISHED}},
    ],
)
def test_an_envelope_changes_nothing(body: Any) -> None:
    assert read(TRUUST, body) == read(TRUUST, PUBLISHED)


def test_a_name_may_stand_outside_the_envelope_or_inside() -> None:
    outside = read(TRUUST, {"event": "Order Failed", "data": {"escrow": {"id": "7"}}})
    inside = read(TRUUST, {"data": {"event": "Order Failed", "escrow": {"id": "7"}}})
    assert outside == inside
    assert outside.type == "payment.failed"


def test_envelopes_without_end_are_not_followed() -> None:
    body: Any = PUBLISHED
    for _ in range(40):
        body = {"data": body, "payload": body["escrow"]} if "escrow" in body else {"data": body}
    assert read(TRUUST, body).type == "provider.unknown"


@pytest.mark.parametrize("body", [b"[]", b"[{},{}]", b"1", b"null", b'"text"', b'""', b'"[1]"'])
def test_a_body_without_an_object_is_quarantined(body: bytes) -> None:
    with pytest.raises(Unreadable, match="not-an-object"):
        read(TRUUST, body)


@pytest.mark.parametrize(
    ("body", "transaction"),
    [
        ({"escrow": {"id": 7}, "order": {"id": 8}}, "7"),
        ({"escrow": {"id": None}, "order": {"id": 8}, "order_id": 9}, "8"),
        ({"order_id": 9, "payin": {"escrow_id": 10}}, "9"),
        ({"escrow": {"id": True}, "payin": {"escrow_id": 10}}, None),
        ({"payin": {"escrow_id": 10}}, "10"),
        ({"payin": {"id": 10}}, None),
    ],
)
def test_the_transaction_is_the_first_id_that_there_is(body: dict[str, Any], transaction: str | None) -> None:
    assert read(TRUUST, body).transaction_id == transaction


@pytest.mark.parametrize(
    ("event", "payment"),
    [("Order Published", "2"), ("Order Failed", "2"), ("Payout Created", "1"), ("Order Released", "1")],
)
def test_the_payment_is_the_payin_or_for_payouts_the_payout(event: str, payment: str) -> None:
    assert read(TRUUST, {"event": event, "payin": {"id": 2}, "payout": {"id": 1}}).payment_id == payment


@pytest.mark.parametrize(
    ("escrow", "expected"),
    [
        ({"amount": 9.99, "currency": "EUR"}, Money(999, "EUR")),
        ({"amount": "150.00 €", "currency": "EUR"}, Money(15000, "EUR")),
        ({"amount": "150.00 €"}, Money(15000, "EUR")),
        ({"amount": 9, "currency": "eur"}, Money(900, "EUR")),
        ({"amount": None, "currency": "EUR"}, None),
        ({}, None),
    ],
)
def test_an_amount_is_read_from_number_or_text(escrow: dict[str, Any], expected: Money | None) -> None:
    assert read(TRUUST, {"event": "Order Published", "escrow": escrow}).money == expected


@pytest.mark.parametrize(
    ("escrow", "code"),
    [
        ({"amount": 9.999, "currency": "EUR"}, "bad-amount"),
        ({"amount": {}, "currency": "EUR"}, "bad-amount"),
        ({"amount": 9.99}, "unknown-currency"),
        ({"amount": 9.99, "currency": "XXX"}, "unknown-currency"),
    ],
)
def test_an_amount_that_cannot_be_read_is_quarantined(escrow: dict[str, Any], code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(TRUUST, {"event": "Order Published", "escrow": escrow})
    assert caught.value.code == code


def test_a_second_failure_by_another_payin_is_another_event() -> None:
    first, second = (read(TRUUST, order("FAILURE", payin={"id": i, "status": "FAILED"})) for i in (1, 2))
    assert first.dedupe is not None
    assert first.dedupe != second.dedupe


@pytest.mark.parametrize(
    "body",
    [
        {"escrow": {"status": "PUBLISHED"}, "payin": {"id": 1, "status": "CONFIRMED"}},
        {"escrow": {"id": "7"}, "event": "Order Published", "payin": {"id": 1, "status": "CONFIRMED"}},
        order("PUBLISHED"),
        order("PUBLISHED", payin={"id": 1}),
        order("PUBLISHED", payin={"status": "CONFIRMED"}),
        order("PUBLISHED", payin={"id": 1, "status": "CONFIRMED"}, payout={"id": 3}),
    ],
)
def test_without_an_identifying_field_there_is_no_key(body: dict[str, Any]) -> None:
    event = read(TRUUST, body)
    assert (event.type, event.dedupe) == ("payment.received", None)


def test_each_token_is_a_path() -> None:
    assert TRUUST.paths() == ["truust-1/tok-1", "truust-1/tok-2"]
    assert TRUUST.verify(request(token="tok-1")) is Verdict.STORE


@pytest.mark.parametrize("token", [None, "", "tok-3", "tök-1", "\udcff"])
def test_a_wrong_path_is_no_source(token: str | None) -> None:
    with pytest.raises(NoSuchSource):
        TRUUST.verify(request(token=token))
