"""Which of an event's values reach which target: by provider, by source, by target, in each form that is sent."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import pytest

from shared.config.check import parse_config
from shared.delivery.formats import compose
from shared.errors import Unreadable
from shared.event.ids import event_id
from shared.event.record import EventRecord, attributes_of, data_of
from shared.event.types import HANDSHAKE
from shared.providers import ADAPTERS, simulations
from shared.providers.base import Adapter, RawEvent
from shared.providers.scenarios import Fresh
from shared.routing.redactions import Redactions
from shared.values import MemberPath
from tests.receiving import assert_sound
from tests.unit.sources import DEFAULTS, SAMPLES, source
from tests.unit.test_redaction import bare, leads

CANARY = "CANARY-5QZ"
TRUUST = SAMPLES["truust/EscrowPublished"]
CARD_DETAILS = ("407980******7842", "3111", "a1b2c3d4e5f6")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def record_of(adapter: Adapter[Any], body: bytes) -> EventRecord:
    """Return what the store keeps of a provider's body."""
    event = adapter.normalise(RawEvent(body))
    id = event_id(adapter.settings.name, "1767225600123-0")
    attributes = attributes_of(event, id=id, source=adapter.settings.name, received_ms=1767225600123)
    data = data_of(event, provider=adapter.provider)
    return EventRecord(id, msgspec.json.encode(attributes), msgspec.json.encode(data), body)


def redactions(adapter: Adapter[Any] | None, *paths: str, **keys: Any) -> Redactions:
    """Return those of a target with these paths, if this adapter's source is configured with these keys."""
    sources = []
    if adapter is not None:
        provider = adapter.provider
        sources = [{"name": adapter.settings.name, "provider": provider} | DEFAULTS[provider] | keys]
    target = {"name": "t", "url": "https://example.com", "secret": SECRET, "redact": list(paths)}
    config = parse_config({"sources": sources, "targets": [target]})
    return Redactions(config, config.targets[0])


def data_sent(record: EventRecord) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(compose(record, "cloudevents")[1])["data"]
    return data


def bodies(provider: str) -> Iterator[Any]:
    """Return bodies of a provider: its samples, in its envelopes too, and what its simulation writes."""
    for name, body in SAMPLES.items():
        if name.startswith(provider):
            yield json.loads(body)
    play = simulations()[provider]
    for scenario in play.scenarios:
        for message in play.write(scenario, Fresh(Random(1))):
            yield json.loads(message.body)
    if provider == "trustshare":
        for name in ("payment_paused", "dispute_raised"):
            payload = json.loads(SAMPLES[f"trustshare/{name}"])
            yield {"id": "wh_evt_1", "type": payload["type"], "payload": payload}
    if provider == "truust":
        yield {"event": "Order Accepted", "data": [{"attributes": json.loads(TRUUST)}]}
        yield {"order": {"id": "7", "auto_settled": "1"}, "payout": {"id": 1, "status": "RELEASED"}}
    if provider == "trustap":
        parties = {"buyer": {"id": "1-b", "is_guest": False}, "seller": {"id": "1-s"}, "status": "x"}
        yield {
            "code": "tx.paid",
            "target_id": "tx_1",
            "time": "2026-01-01T00:00:00Z",
            "target_preview": parties,
        }
        more = {"tracking": {"carrier": "c", "tracking_code": "t"}, "complaint": {"description": "d"}}
        yield {"code": "basic_tx.complained", "target_id": "1", "user_id": "1-u", "target_preview": more}
        yield {"code": "basic_tx.payment_failed", "target_id": "1", "metadata": {"failure_code": "f"}}
    if provider == "trustist":
        yield json.loads(SAMPLES["trustist/PaymentStatusChanged-PENDING"]) | {"orgId": "o", "reference": "r"}


def with_canaries(body: Any) -> Iterator[tuple[list[str], Any]]:
    """Return a body with a canary in place of each leaf in turn, and the names that lead there."""

    def places(value: Any, way: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
        if isinstance(value, dict | list):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from places(item, (*way, key))
        elif way:
            yield way

    for way in places(body, ()):
        changed = json.loads(json.dumps(body))
        holder = changed
        for step in way[:-1]:
            holder = holder[step]
        holder[way[-1]] = "1" if way[-1] == "auto_settled" else CANARY
        yield [step for step in way if isinstance(step, str)], changed


@pytest.mark.parametrize("provider", sorted(ADAPTERS))
def test_what_is_redacted_is_sent_in_no_party_and_no_detail_either(provider: str) -> None:
    """So each adapter says of all its fields where they are read: another would show its canary here."""
    adapter = source(provider)
    shown = set()
    for body in bodies(provider):
        for names, changed in with_canaries(body):
            try:
                record = record_of(adapter, json.dumps(changed).encode())
            except Unreadable:
                continue
            seen = json.loads(record.data)
            if CANARY not in json.dumps([seen["parties"], seen["details"]]):
                continue
            shown.add(tuple(names))
            for path in (".".join(names), f"**.{names[-1]}", names[0]):
                sent = data_sent(redactions(adapter, path)(record))
                assert path in sent["redacted"]
                left = json.dumps([sent["parties"], sent["details"], sent["original"]])
                assert CANARY not in left, (path, left)
    # Money and a flag can hold no canary: the next test is about them.
    places = [MemberPath(place) for places in adapter.read_from.values() for place in places]
    canaries = [place for place in places if place.names[-1] not in {"balance", "auto_settled"}]
    assert [place for place in canaries if not any(leads(place, names) for names in shown)] == []


@pytest.mark.parametrize(
    ("provider", "body", "path", "field"),
    [
        ("trustshare", SAMPLES["trustshare/payment_received"], "balance", "balance"),
        ("truust", TRUUST, "escrow.auto_settled", "auto_settled"),
        ("truust", TRUUST, "escrow", "auto_settled"),
        (
            "truust",
            json.dumps({"data": json.loads(TRUUST)}).encode(),
            "data.escrow.auto_settled",
            "auto_settled",
        ),
    ],
)
def test_a_detail_of_another_form_goes_with_what_it_is_read_from(
    provider: str, body: bytes, path: str, field: str
) -> None:
    adapter = source(provider)
    record = record_of(adapter, body)
    assert field in data_sent(record)["details"]
    sent = data_sent(redactions(adapter, path)(record))
    assert field not in sent["details"]
    assert path in sent["redacted"]


@pytest.mark.parametrize("provider", ["trustap", "trustist", "trustshare"])
def test_a_party_that_is_named_by_its_role_is_gone_from_parties_and_from_where_it_is_read(
    provider: str,
) -> None:
    adapter = source(provider)
    found = set()
    for body in bodies(provider):
        record = record_of(adapter, json.dumps(body).encode())
        for role, value in json.loads(record.data)["parties"].items():
            found.add(role)
            sent = data_sent(redactions(adapter, role)(record))
            assert role not in sent["parties"]
            assert sent["redacted"] == [role]
            others = {"user_id": None, "metadata": None}  # who caused it has to be named too
            assert json.dumps(value) not in json.dumps(sent["original"] | others)
    assert {f"parties.{role}" for role in found} == {f for f in adapter.read_from if f.startswith("parties.")}


def test_the_address_of_a_trustshare_buyer_is_sent_nowhere_whichever_way_it_is_named() -> None:
    adapter = source("trustshare")
    record = record_of(adapter, SAMPLES["trustshare/payment_received"])
    for path in ("from", "buyer", "**.from"):
        redacted = redactions(adapter, path)(record)
        for format in ("cloudevents", "cloudevents-binary", "standard", "raw"):
            headers, body = compose(redacted, format)
            assert b"buyer@example.com" not in b"".join([*map(b"".join, headers), body])
            assert b"seller@example.com" in body
        assert data_sent(redacted)["redacted"] == [path]


def test_a_role_of_a_source_without_parties_is_a_member_of_its_outermost_object() -> None:
    adapter = source("standard-webhooks")
    record = record_of(adapter, b'{"type":"x.y","buyer":"b","data":{"buyer":"c"}}')
    sent = data_sent(redactions(adapter, "buyer")(record))
    assert (sent["original"], sent["redacted"]) == ({"type": "x.y", "data": {"buyer": "c"}}, ["buyer"])


@pytest.mark.parametrize("provider", sorted(ADAPTERS))
def test_a_redacted_event_follows_the_schema_and_all_else_of_it_is_the_same(provider: str) -> None:
    adapter = source(provider)
    for body in bodies(provider):
        record = record_of(adapter, json.dumps(body).encode())
        if json.loads(record.attributes)["type"] == HANDSHAKE:
            continue
        names = [*body, "buyer", "seller", "merchant", "**.id"]
        redacted = redactions(adapter, *names, **opening(provider))(record)
        headers, content = compose(redacted, "cloudevents")
        assert_sound({name.decode(): value.decode() for name, value in headers}, content)
        before, after = data_sent(record), data_sent(redacted)
        assert after["original"] == {}
        assert (after["parties"], after.pop("redacted")[: len(body)]) == ({}, [*body])
        free = {"parties": None, "details": None, "original": None}
        assert after | free == before | free
        assert (redacted.id, redacted.attributes) == (record.id, record.attributes)


def opening(provider: str) -> dict[str, Any]:
    return {"keep_card_details": True} if provider == "truust" else {}


@pytest.mark.parametrize("provider", sorted(ADAPTERS))
def test_without_paths_an_event_is_sent_as_it_is_kept(provider: str) -> None:
    adapter = source(provider)
    for body in bodies(provider):
        record = record_of(adapter, json.dumps(body).encode())
        assert redactions(adapter, **opening(provider))(record) is record


def test_what_a_source_and_what_a_target_redact_is_redacted() -> None:
    adapter = source("trustshare")
    record = record_of(adapter, SAMPLES["trustshare/payment_received"])
    sent = data_sent(redactions(adapter, "to", redact=["from", "description"])(record))
    assert sent["redacted"] == ["from", "description", "to"]
    assert sent["parties"] == {}
    other = record_of(source("trustap"), SAMPLES["trustap/basic_tx-joined"])
    assert redactions(adapter, redact=["code"])(other) is other, "it is of another source"
    assert data_sent(redactions(adapter, "code")(other))["redacted"] == ["code"]


ENVELOPES = [
    TRUUST,
    json.dumps(TRUUST.decode()).encode(),
    b"[" + TRUUST + b"]",
    b'{"data":{"type":"escrows","attributes":' + TRUUST + b"}}",
    json.dumps({"event": "Order Accepted", "payload": json.dumps([TRUUST.decode()])}).encode(),
    TRUUST.replace(b"Ds_CardNumber", b"\\u0044s_CardNumber").replace(b'"payin"', b'"something_new"'),
]


@pytest.mark.parametrize("body", ENVELOPES)
def test_card_details_of_truust_are_sent_to_nobody_unless_the_source_opens_them(body: bytes) -> None:
    adapter = source("truust")
    record = record_of(adapter, body)
    assert all(value in body.decode() for value in CARD_DETAILS)
    # Also once the source has left the configuration, while events of it wait.
    for redacted in (redactions(adapter)(record), redactions(None)(record)):
        for format in ("cloudevents", "cloudevents-binary", "standard", "raw"):
            content = compose(redacted, format)[1].decode()
            assert not any(value in content for value in CARD_DETAILS)
        assert b"Ds_Response" in redacted.body
        assert "**.Ds_Merchant_Identifier" in data_sent(redacted)["redacted"]
    open_ = redactions(adapter, keep_card_details=True)
    assert open_(record) is record


def test_an_opened_source_can_redact_some_card_details_all_the_same() -> None:
    adapter = source("truust")
    some = redactions(adapter, keep_card_details=True, redact=["payin.provider.Ds_Merchant_Identifier"])
    sent = data_sent(some(record_of(adapter, TRUUST)))
    assert sent["redacted"] == ["payin.provider.Ds_Merchant_Identifier"]
    expected = json.loads(TRUUST)
    del expected["payin"]["provider"]["Ds_Merchant_Identifier"]
    assert sent["original"] == expected
    assert expected["payin"]["card"]["name"] == "407980******7842"


def test_an_event_of_no_provider_is_redacted_by_the_target_alone() -> None:
    record = msgspec.structs.replace(bare(b'{"test": true}'), data=b'{"provider":"headrace","parties":{}}')
    assert redactions(None)(record) is record
    assert redactions(None, "test")(record).body == b"{}"
