"""A receiver's view of a delivery: it follows the published schema, and the CloudEvents SDK reads it."""

import gc
import json
from functools import cache

from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from shared.operations.schema import SENT_TYPES, event_schema


@cache
def validator(type_: str | None) -> Draft202012Validator:
    """Return the validator of a type's schema; None is any event's."""
    return Draft202012Validator(event_schema(type_))


def assert_sound(headers: dict[str, str], body: bytes) -> None:
    """Check a delivery in the form `cloudevents`."""
    # While a body of many small lists is read, Python's collector would go through all of them again and again,
    # and take most of the time. They are in no cycle, so it is not needed.
    gc.disable()
    try:
        _assert_sound(headers, body)
    finally:
        gc.enable()


def _assert_sound(headers: dict[str, str], body: bytes) -> None:
    event = json.loads(body)
    type_ = event["type"] if event["type"] in SENT_TYPES else None
    problems = [f"{error.json_path}: {error.message}" for error in validator(type_).iter_errors(event)]
    assert problems == []
    read = from_structured(HTTPMessage(headers, body), JSONFormat(), CloudEvent)
    assert (read.get_id(), read.get_type(), read.get_data()) == (event["id"], event["type"], event["data"])
