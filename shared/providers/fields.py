"""Reading single fields out of untrusted JSON: a field of the wrong type counts as absent."""

import re

from shared.event.canonical import DedupeKey
from shared.event.jsonbody import Json

MAX_NAME_CHARS = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def members(parent: dict[str, Json], key: str) -> dict[str, Json]:
    """Return the object at `key`; an empty one if there is none."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def text(parent: dict[str, Json], key: str) -> str | None:
    """Return the string at `key`; None if there is none."""
    value = parent.get(key)
    return value if isinstance(value, str) else None


def name(parent: dict[str, Json], key: str) -> str | None:
    """Return the name at `key`: an event's, a status's, a time; None if there is none.

    Names reach listings, headers and keys in the store, so an empty one, one longer than
    `MAX_NAME_CHARS` or one that holds a control character counts as absent.
    """
    value = parent.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARS:
        return None
    if not value.isprintable() and _CONTROL.search(value):  # quick, and true of most names
        return None
    return value


def identifier(parent: dict[str, Json], key: str) -> str | None:
    """Return the identifier at `key`, a name or an integer, as text; None if there is none."""
    value = parent.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        digits = str(value)
        return digits if len(digits) <= MAX_NAME_CHARS else None
    return name(parent, key)


def present(**values: Json) -> dict[str, Json]:
    """Return the arguments that are neither None nor an empty object."""
    return {key: value for key, value in values.items() if value is not None and value != {}}


def dedupe_key(*parts: str | None) -> DedupeKey | None:
    """Return the key of these parts; None if one is missing, as different events must not count as one."""
    found = tuple(part for part in parts if part is not None)
    return DedupeKey(found) if len(found) == len(parts) else None
