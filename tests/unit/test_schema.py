"""The schema: every event that the adapters can make follows it, and what is no event does not."""

import json
from random import Random
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from shared.delivery.formats import compose
from shared.event.canonical import Money
from shared.event.ids import event_id, received_ms
from shared.event.record import Attributes, Data, EventRecord, attributes_of, data_of
from shared.event.types import HANDSHAKE, STATUS_OF
from shared.operations import schema
from shared.providers import simulations
from shared.providers.base import Adapter, RawEvent
from shared.providers.scenarios import Fresh
from tests.receiving import assert_sound, validator
from tests.unit.sources import SAMPLES, source


def delivered(adapter: Adapter[Any], body: bytes) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the delivery that a provider's body becomes."""
    event = adapter.normalise(RawEvent(body))
    id = event_id(adapter.settings.name, "1767225600123-0")
    attributes = attributes_of(event, id=id, source=adapter.settings.name, received_ms=received_ms(id))
    data = data_of(event, provider=adapter.provider)
    record = EventRecord(id, msgspec.json.encode(attributes), msgspec.json.encode(data), body)
    headers, content = compose(record, "cloudevents")
    return {name.decode(): value.decode() for name, value in headers}, content


@pytest.mark.parametrize("name", [name for name in SAMPLES if "handshake" not in name])
def test_every_sample_becomes_an_event_of_the_schema(name: str) -> None:
    assert_sound(*delivered(source(name.partition("/")[0]), SAMPLES[name]))


@pytest.mark.parametrize("provider", sorted(simulations()))
def test_every_simulated_request_becomes_an_event_of_the_schema(provider: str) -> None:
    play = simulations()[provider]
    for scenario in play.scenarios:
        for message in play.write(scenario, Fresh(Random(1))):
            if message.event != "handshake":
                headers, body = delivered(source(provider), message.body)
                assert_sound(headers, body)
                assert validator(None).is_valid(json.loads(body))


def good() -> dict[str, Any]:
    _, body = delivered(source("trustshare"), SAMPLES["trustshare/payment_received"])
    event: dict[str, Any] = json.loads(body)
    return event


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("specversion", "0.3"),
        ("id", "msg_1"),
        ("source", "trustshare"),
        ("type", ""),
        ("type", "a b"),
        ("time", "2026-03-02T10:01:44+01:00"),
        ("time", None),
        ("subject", ""),
        ("receivedat", None),
        ("datacontenttype", "text/plain"),
        ("data", None),
        ("data.provider", "paypal"),
        ("data.money", {"amount_minor": 1.5, "currency": "GBP"}),
        ("data.money", {"amount_minor": 1, "currency": "gbp"}),
        ("data.money", {"amount_minor": 1}),
        ("data.money", {"amount_minor": 2**63, "currency": "GBP"}),
        ("data.parties", {"buyer": None}),
        ("data.status", "released"),  # payment.received is `funded`
        ("data.status", None),
        ("data.details", None),
    ],
)
def test_what_is_no_event_of_headrace_does_not_follow_it(path: str, value: Any) -> None:
    event = good()
    holder, _, key = path.rpartition(".")
    (event[holder] if holder else event)[key] = value
    assert not validator(None).is_valid(event)
    assert not validator("payment.received").is_valid(event)


@pytest.mark.parametrize("path", ["id", "source", "receivedat", "data", "data.original", "data.status"])
def test_what_receivers_rely_on_must_be_there(path: str) -> None:
    event = good()
    holder, _, key = path.rpartition(".")
    del (event[holder] if holder else event)[key]
    assert not validator(None).is_valid(event)


def test_a_type_s_own_schema_takes_no_other_type() -> None:
    assert validator("payment.received").is_valid(good())
    assert not validator("payment.failed").is_valid(good())


@pytest.mark.parametrize("type_", [None, *schema.SENT_TYPES])
def test_the_schema_is_one_of_2020_12(type_: str | None) -> None:
    made = schema.event_schema(type_)
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(made)


def test_the_schema_knows_every_type_that_is_sent_and_every_field() -> None:
    assert set(schema.SENT_TYPES) == set(STATUS_OF) - {HANDSHAKE}
    for notes, struct in ((schema._ATTRIBUTES, Attributes), (schema._DATA, Data), (schema._MONEY, Money)):
        assert set(notes) == {field.encode_name for field in msgspec.structs.fields(struct)}
