"""The canonical event's forms, each with the provider's bytes unchanged in it."""

import json
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.formats import compose
from shared.event.canonical import Event, Money
from shared.event.ids import event_id, received_ms, source_tag, stream_id
from shared.event.record import EventRecord, attributes_of, data_of
from shared.event.times import rfc3339_ms

# What a parser and a printer would change: key order, a repeated key, number tokens, escapes, white space.
AWKWARD = b' {"b":1.10,"a":1e2,"a":12345678901234567890123,\n"\\u00e9":"\\/"} '


def record(body: bytes = AWKWARD, **changes: Any) -> EventRecord:
    event = Event(
        **{
            "type": "payment.received",
            "provider_event": "paid",
            "transaction_id": "t-1",
            "money": Money(150000, "GBP"),
            "time": "2026-03-02T11:30:00Z",
            **changes,
        }
    )
    id = event_id("trustap", "1767225600123-0")
    return EventRecord(
        id,
        msgspec.json.encode(attributes_of(event, id=id, source="trustap", received_ms=received_ms(id))),
        msgspec.json.encode(data_of(event, provider="trustap")),
        body,
    )


def message(headers: list[tuple[bytes, bytes]], body: bytes) -> HTTPMessage:
    return HTTPMessage({name.decode(): value.decode() for name, value in headers}, body)


def test_cloudevents_is_read_by_the_sdk() -> None:
    headers, body = compose(record(), "cloudevents")
    event = from_structured(message(headers, body), JSONFormat(), CloudEvent)
    assert event.get_type() == "payment.received"
    assert event.get_source() == "/sources/trustap"
    assert event.get_subject() == "t-1"
    data: Any = event.get_data()
    assert data["money"] == {"amount_minor": 150000, "currency": "GBP"}
    assert event.get_extension("receivedat") == "2026-01-01T00:00:00.123Z"


def test_cloudevents_binary_carries_the_same_attributes_as_headers() -> None:
    headers, body = compose(record(subject='a "ü%'), "cloudevents-binary")
    assert dict(headers)[b"ce-subject"] == b"a%20%22%C3%BC%25"
    event = from_binary(message(headers, body), JSONFormat(), CloudEvent)
    assert (event.get_type(), event.get_id()) == ("payment.received", record().id)
    data: Any = event.get_data()
    assert data["transaction_id"] == "t-1"


def test_standard_has_type_timestamp_and_data() -> None:
    _, body = compose(record(), "standard")
    payload = json.loads(body)
    assert list(payload) == ["type", "timestamp", "data"]
    assert payload["timestamp"] == "2026-03-02T11:30:00Z"
    _, body = compose(record(time=None), "standard")
    assert json.loads(body)["timestamp"] == "2026-01-01T00:00:00.123Z", "else when it came in"


def test_raw_is_the_provider_s_own_request() -> None:
    raw = msgspec.structs.replace(record(), content_type="application/vnd.x+json; charset=utf-8")
    assert compose(raw, "raw") == ([(b"content-type", b"application/vnd.x+json; charset=utf-8")], AWKWARD)


@pytest.mark.parametrize("format", ["cloudevents", "cloudevents-binary", "standard"])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_provider_s_bytes_stand_unchanged_in_every_form(format: str, value: Any) -> None:
    body = json.dumps(value).encode()
    for original in (body, b"\n" + body + b" ", AWKWARD):
        sent = compose(record(original), format)[1]
        assert b'"original":' + original + b"}" in sent
        payload = json.loads(sent)
        data = payload if format == "cloudevents-binary" else payload["data"]
        assert data["original"] == json.loads(original)


def test_absent_attributes_are_left_out_and_absent_data_is_null() -> None:
    bare = json.loads(compose(record(b"{}", transaction_id=None, time=None, money=None), "cloudevents")[1])
    assert set(bare) == {"specversion", "id", "source", "type", "receivedat", "datacontenttype", "data"}
    assert bare["data"]["money"] is None
    assert bare["data"]["transaction_id"] is None
    inferred = json.loads(compose(record(b"{}", type_inferred=True), "cloudevents")[1])
    assert inferred["typeinferred"] is True


@given(ms=st.integers(0, 2**43), seq=st.integers(0, 2**64 - 1), source=st.text(min_size=1))
def test_an_event_id_leads_back_to_its_inbox_entry(ms: int, seq: int, source: str) -> None:
    id = event_id(source, f"{ms}-{seq}")
    assert (received_ms(id), stream_id(id)) == (ms, f"{ms}-{seq}")
    assert id.startswith("evt_")
    assert source_tag(source) in id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evt_",
        "evt_zz",
        "msg_1a1ffdd5680b1a5d6f30",
        "evt_1a1ffdd5680",
        "evt_1A1FFDD5680B1A5D6F30",
        "evt_1a1ffdd5680b1a5d6f3_0",
        "evt_" + "x" * 24,
    ],
)
def test_what_is_no_event_id_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        stream_id(text)


def test_event_ids_sort_by_receipt() -> None:
    ids = [event_id("z", "999-5"), event_id("a", "1000-0"), event_id("m", "1767225600123-0")]
    assert ids == sorted(ids)


def test_milliseconds_as_text() -> None:
    assert rfc3339_ms(1767225600007) == "2026-01-01T00:00:00.007Z"
