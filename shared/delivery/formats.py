"""The forms in which an event is sent: CloudEvents 1.0 and its relatives."""

import msgspec

from shared.event.record import JSON, EventRecord


def compose(record: EventRecord, format: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the headers and the body of a delivery in one of the four forms.

    The record's body stands in the envelope unchanged; `raw` is that body alone. Source: CloudEvents 1.0,
    HTTP binding (structured and binary mode); Standard Webhooks, payload structure.
    """
    if format == "raw":
        return [(b"content-type", record.content_type.encode("latin-1", "replace"))], record.body
    data = record.data[:-1] + b',"original":' + record.body + b"}"
    if format == "cloudevents":
        return [(b"content-type", b"application/cloudevents+json")], (
            record.attributes[:-1] + b',"data":' + data + b"}"
        )
    attributes = msgspec.json.decode(record.attributes, type=dict[str, str | bool])
    if format == "standard":
        # `timestamp` is when the event occurred; if the provider does not say, when it came in.
        timestamp = attributes.get("time") or attributes["receivedat"]
        head = {"type": attributes["type"], "timestamp": timestamp}
        return [(b"content-type", b"application/json")], (
            msgspec.json.encode(head)[:-1] + b',"data":' + data + b"}"
        )
    headers = [
        (b"ce-" + name.encode(), _header_value(value))
        for name, value in attributes.items()
        if name != "datacontenttype"
    ]
    return [(b"content-type", JSON.encode()), *headers], data


def _header_value(value: str | bool) -> bytes:
    """Percent-encode what a header cannot hold. Source: CloudEvents 1.0, HTTP binding, 3.1.3.2."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return "".join(
        char if "!" <= char <= "~" and char not in '"%' else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in value
    ).encode()
