"""Every sample of every provider with fixed names goes through the real gateway and arrives once, canonical and signed."""

from pathlib import Path
from typing import Any

import pytest

from shared import providers
from tests.acceptance.gateway import REQUESTS, SECRET, Gateway, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

GBP_1500 = {"amount_minor": 150000, "currency": "GBP"}
GBP_150 = {"amount_minor": 15000, "currency": "GBP"}
GBP_0 = {"amount_minor": 0, "currency": "GBP"}
GBP_1049_10 = {"amount_minor": 104910, "currency": "GBP"}
EMAILS = {"buyer": "buyer@example.com", "seller": "seller@example.com"}
TOKEN, PAYMENT, SETTLING = "5CIXLExTtrIE8387", "f79L9CBt3NuyEEap", "oXkIwJcxE3S3Z8BX"
INVITATION = "3f2b8c1e-5d7a-4c7e-9a43-0d6f1b2c9e10"

# Sample → type, subject, transaction, payment, money, status, time: what the providers' pages say of it.
EXPECTED: dict[str, tuple[str, str | None, str | None, str | None, dict[str, Any] | None, str | None, str | None]] = {
    "trustshare/transaction_initiated": (
        "transaction.initiated", TOKEN, TOKEN, None, GBP_1500, "open", None),
    "trustshare/transaction_complete": (
        "transaction.completed", TOKEN, TOKEN, None, GBP_1500, "completed", None),
    "trustshare/transaction_abandoned": (
        "transaction.abandoned", TOKEN, TOKEN, None, None, "cancelled", None),
    "trustshare/payment_received": ("payment.received", TOKEN, TOKEN, PAYMENT, GBP_1500, "funded", None),
    "trustshare/payment_released": ("payout.released", TOKEN, TOKEN, PAYMENT, GBP_1500, "released", None),
    "trustshare/payment_returned": ("payment.refunded", TOKEN, TOKEN, PAYMENT, GBP_1500, "refunded", None),
    "trustshare/payment_settling": ("payment.pending", TOKEN, TOKEN, SETTLING, GBP_150, "pending", None),
    "trustshare/payment_paused": ("payment.paused", TOKEN, TOKEN, PAYMENT, GBP_1500, "on_hold", None),
    "trustshare/dispute_raised": ("dispute.raised", TOKEN, TOKEN, None, None, "disputed", None),
    "trustshare/dispute_resolved": ("dispute.resolved", TOKEN, TOKEN, None, None, "resolved", None),
    "trustap/basic_tx-joined": (
        "transaction.joined", "basic_tx/25992", "basic_tx/25992", None,
        {"amount_minor": 20000, "currency": "GBP"}, "open", "2025-04-09T10:08:41.905612674Z"),
    "trustap/p2p_tx-joined": (
        "transaction.joined", "p2p_tx/1309", "p2p_tx/1309", None, None, "open", "2025-12-25T10:00:00.000Z"),
    "truust/EscrowPublished": (
        "payment.received", "7654321", "7654321", "1234567",
        {"amount_minor": 999, "currency": "EUR"}, "funded", None),
    "trustist/InvitationStatusChanged-OPENED": (
        "invitation.opened", INVITATION, None, None, None, "opened", "2026-03-02T09:14:07.1234567Z"),
    "trustist/InvitationStatusChanged-COMPLETE": (
        "invitation.completed", INVITATION, None, None, None, "completed", "2026-03-02T10:01:44.0000001Z"),
    "trustist/PaymentStatusChanged-PENDING": (
        "payment.pending", "P-88310", "P-88310", "P-88310", GBP_1049_10, "pending",
        "2026-03-02T11:30:00.9876543Z"),
    "trustist/PaymentStatusChanged-COMPLETE": (
        "payment.completed", "P-88310", "P-88310", "P-88310", GBP_1049_10, "paid", None),
    "trustist/PaymentStatusChanged-FAILED": (
        "payment.failed", "P-88310", "P-88310", "P-88310", GBP_1049_10, "failed", None),
}  # fmt: skip


def samples() -> dict[str, bytes]:
    assert set(REQUESTS) == {name for name, adapter in providers.ADAPTERS.items() if adapter.mapping}
    found = {
        f"{provider}/{name}": body
        for provider in REQUESTS
        for name, body in sorted(providers.samples(provider).items())
    }
    assert set(found) == {*EXPECTED, "trustshare/handshake"}
    return found


def test_every_sample_sent_twice_is_delivered_once_to_each_matching_target(folder: Path, sink: Sink) -> None:
    targets = (
        target("all", sink.port)
        + target("payments", sink.port, events='["payment.*"]', sources='["trust*"]')
        + target("large", sink.port, filter='"data.money.amount_minor >= 100000"')
        + target("nobody", sink.port, events='["fulfilment.*"]')
    )
    with Gateway(folder, targets) as gateway:
        receipts: dict[str, str] = {}
        copies: list[str] = []
        for name, body in samples().items():
            provider = name.partition("/")[0]
            first, second = gateway.post(provider, body), gateway.post(provider, body)
            assert (first.status, second.status) == (200, 200)
            receipts[name] = first.id
            copies.append(second.id)
        sink.wait_for("all", len(EXPECTED))
        with gateway.redis as redis:
            wait_for(lambda: redis.zcard("hr:duplicates") == len(copies), "every copy to be recorded")
            wait_for(lambda: redis.zcard("hr:open") == 0, "every delivery to be done")
            assert redis.zcard("hr:quarantine") == 0

    by_id = {delivery.id: delivery for delivery in sink.of("all")}
    assert len(by_id) == len(sink.of("all")) == len(EXPECTED), "once each, and the handshake never"
    for name, (type_, subject, transaction, payment, money, status, time) in EXPECTED.items():
        delivery = by_id[receipts[name]]
        delivery.verify(SECRET)
        assert delivery.headers["content-type"] == "application/cloudevents+json"
        assert delivery.headers["user-agent"].startswith("Headrace/")
        event, data = delivery.event, delivery.event["data"]
        assert (event["specversion"], event["id"], event["source"]) == (
            "1.0", receipts[name], f"/sources/{name.partition('/')[0]}")  # fmt: skip
        assert (name, event["type"], event["subject"], event.get("time")) == (name, type_, subject, time)
        assert (name, data["transaction_id"], data["payment_id"], data["money"], data["status"]) == (
            name, transaction, payment, money, status)  # fmt: skip
        assert data["provider"] == name.partition("/")[0]
        # Byte for byte: the provider's own text stands in the body that was signed, unless card details are in it.
        assert (b'"original":' + samples()[name] in delivery.body) == ("redacted" not in data)
        assert ("redacted" in data) == name.startswith("truust/")
    assert by_id[receipts["trustshare/payment_paused"]].event["data"]["details"]["reason"] == (
        "inbound_payments_pending"
    )
    assert by_id[receipts["trustshare/payment_received"]].event["data"]["parties"] == EMAILS
    assert by_id[receipts["trustshare/payment_received"]].event["data"]["details"]["balance"] == GBP_1500

    payments = {  # and `trust*` is not `truust`
        name
        for name, expected in EXPECTED.items()
        if expected[0].startswith("payment.") and not name.startswith("truust/")
    }
    assert {delivery.id for delivery in sink.of("payments")} == {receipts[name] for name in payments}
    assert len(sink.of("payments")) == len(payments)
    large = {
        name for name, expected in EXPECTED.items() if expected[4] and expected[4]["amount_minor"] >= 100000
    }
    assert {delivery.id for delivery in sink.of("large")} == {receipts[name] for name in large}
    assert sink.of("nobody") == []


@pytest.mark.parametrize("provider", sorted(REQUESTS))
def test_wrong_credentials_are_refused_and_store_nothing(provider: str, folder: Path, sink: Sink) -> None:
    body = next(body for name, body in samples().items() if name.startswith(provider))
    path, headers = REQUESTS[provider]
    with Gateway(folder, target("all", sink.port)) as gateway:
        if headers:
            wrong = [{}, {key: value + "x" for key, value in headers.items()}, dict.fromkeys(headers, "é")]
            assert [gateway.request("POST", path, body, given).status for given in wrong] == [401, 401, 401]
        else:
            assert gateway.request("POST", path + "x", body).status == 404
            assert gateway.request("POST", path.rpartition("/")[0], body).status == 404
        with gateway.redis as redis:
            assert redis.keys("hr:inbox:*") == []
            assert redis.keys("hr:event:*") == []
    assert sink.deliveries == []
