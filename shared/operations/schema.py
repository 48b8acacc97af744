"""The JSON Schema (2020-12) of the canonical event: the fields that a receiver may rely on.

It is made from the structs that events are written with, so it cannot differ from them.
"""

import re
from typing import Any

import msgspec

from shared.event.ids import EVENT_ID
from shared.event.record import JSON, SOURCE_PREFIX, Attributes, Data
from shared.event.types import HANDSHAKE, STATUS_OF, TEST_PROVIDER, TYPE
from shared.providers import ADAPTERS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SENT_TYPES = tuple(type_ for type_ in STATUS_OF if type_ != HANDSHAKE)
"""The canonical types that a target can get, in the table's order."""

_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$"

_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "specversion": {"const": "1.0"},
    "id": {
        "pattern": f"^{EVENT_ID.pattern}$",
        "description": "Also the webhook-id: the same on every attempt.",
    },
    "source": {"pattern": f"^{re.escape(SOURCE_PREFIX)}[A-Za-z0-9][A-Za-z0-9._-]*$"},
    "type": {
        "pattern": f"^{TYPE.pattern}$",
        "description": "One of the table; a sender by Standard Webhooks may add its own.",
    },
    "subject": {
        "minLength": 1,
        "description": "The transaction; an invitation's events have the invitation.",
    },
    "time": {"pattern": _TIME, "description": "When it happened, in UTC; only if the provider says."},
    "receivedat": {"pattern": _TIME, "description": "When Headrace had it safe."},
    "typeinferred": {"description": "The type was told from structure and statuses: no name was given."},
    "datacontenttype": {"const": JSON},
}
_DATA: dict[str, dict[str, Any]] = {
    "provider": {"enum": [*sorted(ADAPTERS), TEST_PROVIDER]},
    "provider_event": {"description": "The provider's own word for it."},
    "transaction_id": {},
    "payment_id": {},
    "parties": {"description": "Who takes part, by role: buyer, seller, merchant."},
    "money": {"description": "What this event is about; null if that is not known."},
    "status": {"description": "What the event makes of its transaction; null if it says nothing of that."},
    "provider_status": {"description": "The provider's own word for its status."},
    "occurred_at": {"description": "The provider's time, verbatim."},
    "details": {"description": "What only some providers say: balance, reason, by, actor, tracking …"},
}
_MONEY: dict[str, dict[str, Any]] = {
    "amount_minor": {
        "minimum": -(2**63),
        "maximum": 2**63 - 1,
        "description": "Pence, cents, fils: by the currency's ISO 4217 exponent.",
    },
    "currency": {"pattern": "^[A-Z]{3}$"},
}


def event_schema(type: str | None = None) -> dict[str, Any]:
    """Return the schema of an event as the form `cloudevents` carries it; `type` narrows it to one."""
    _, structs = msgspec.json.schema_components((Attributes, Data), ref_template="#/$defs/{name}")
    attributes, data, money = (structs[name] for name in ("Attributes", "Data", "Money"))
    for struct, notes in ((attributes, _ATTRIBUTES), (data, _DATA), (money, _MONEY)):
        _annotate(struct, notes)
    _never_null(attributes)
    data["properties"]["redacted"] = {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "What was taken out, as the configuration names it; absent if nothing was.",
    }
    data["properties"]["original"] = {
        "description": "The provider's own JSON, byte for byte, without what `redacted` names."
    }
    data["required"].append("original")
    properties = attributes["properties"] | {"data": {"$ref": "#/$defs/Data"}}
    schema = {
        "$schema": DIALECT,
        "$id": f"urn:headrace:event:{type or 'any'}",
        "title": f"A Headrace event: {type}" if type else "A Headrace event",
        "type": "object",
        "properties": properties,
        # Always present, though the struct has defaults for them.
        "required": [*attributes["required"], "receivedat", "datacontenttype", "data"],
        "$defs": {"Data": data, "Money": money},
    }
    if type is None:
        properties["type"]["examples"] = list(SENT_TYPES)
        schema["allOf"] = [_implied(each) for each in SENT_TYPES]
    else:
        properties["type"] = {"const": type}
        data["properties"]["status"] = {"const": STATUS_OF[type]}
    return schema


def _annotate(struct: dict[str, Any], notes: dict[str, dict[str, Any]]) -> None:
    struct.pop("title", None)
    struct.pop("description", None)
    for name, property_ in struct["properties"].items():
        property_.pop("default", None)
        property_.update(notes.get(name, {}))


def _never_null(struct: dict[str, Any]) -> None:
    """Let no optional property be null: it is absent or has a value."""
    for property_ in struct["properties"].values():
        for branch in property_.pop("anyOf", []):
            if branch.get("type") != "null":
                property_.update(branch)


def _implied(type: str) -> dict[str, Any]:
    """Return the rule that a canonical type implies its status."""
    return {
        "if": {"properties": {"type": {"const": type}}, "required": ["type"]},
        "then": {"properties": {"data": {"properties": {"status": {"const": STATUS_OF[type]}}}}},
    }
