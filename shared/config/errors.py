"""Turns msgspec's errors into ours: the key's path, and one sentence that says which values are allowed."""

import re
from typing import Any

from msgspec import inspect

from shared.errors import ConfigError
from shared.nearest import did_you_mean, nearest_first

_STEPS = re.compile(r"\.([^.\[]+)|\[([^\]]*)\]")
_ENTRY = re.compile(r"(source|target)s\[(\d+)\]")
_SHOWN_NAME = re.compile(r"[\w.$@{}-]{1,64}")


def from_msgspec(message: str, type_: type, path: str) -> ConfigError:
    """Return the error for msgspec's `… - at `$.url``, met while `type_` was read, which stands at `path`."""
    problem, _, at = message.partition(" - at `$")
    at = at.rstrip("`")
    where = path + at
    if unknown := re.match(r"Object contains unknown field `(.*)`", problem):
        hint = did_you_mean(unknown[1], _keys_at(type_, at))
        return ConfigError(f"{where}.{_printable(unknown[1])}".lstrip("."), f"is not a known key{hint}")
    if missing := re.match(r"Object missing required field `(.*)`", problem):
        return ConfigError(f"{where}.{missing[1]}".lstrip("."), "is missing")
    if wrong := re.match(r"Expected `(.*)`, got `(.*)`", problem):
        problem = f"must be {wrong[1]}, not {wrong[2]}"
    elif value := re.match(r"Invalid enum value '(.*)'", problem):
        problem = one_of(value[1], _values_at(type_, at))
    elif problem.startswith("Expected"):  # a bound, or a pattern
        problem = _bounds_at(type_, at)
    return ConfigError(where.replace("[...]", "").lstrip("."), problem)  # msgspec's for any key of a table


def one_of(value: str, values: list[str]) -> str:
    """Return the message for a value that is not one of `values`.

    The value is not repeated: it may be a secret.
    """
    return f"must be one of {', '.join(nearest_first(value, values))}"


def with_name(error: ConfigError, tree: dict[str, Any]) -> ConfigError:
    """Return an error that also names its source or target, if that has a name."""
    place = _ENTRY.match(error.path)
    if place is None:
        return error
    entry = tree[f"{place[1]}s"][int(place[2])]
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not _SHOWN_NAME.fullmatch(name):
        return error
    return ConfigError(f'{error.path} ({place[1]} "{name}")', error.problem)


def _keys_at(type_: type, at: str) -> list[str]:
    kind = _kind_at(type_, at)
    return [field.encode_name for field in kind.fields] if isinstance(kind, inspect.StructType) else []


def _values_at(type_: type, at: str) -> list[str]:
    kind = _kind_at(type_, at)
    return [str(value) for value in kind.values] if isinstance(kind, inspect.LiteralType) else []


def _bounds_at(type_: type, at: str) -> str:
    """Return the message for a value of the right type that is out of its bounds."""
    kind = _kind_at(type_, at)
    if isinstance(kind, inspect.Metadata):
        return f"must be {(kind.extra_json_schema or {})['description']}"
    least, most = getattr(kind, "ge", None), getattr(kind, "le", None)
    if least is not None:
        return f"must be at least {least}" if most is None else f"must be from {least} to {most}"
    if (longest := getattr(kind, "max_length", None)) is not None:
        return f"must be at most {longest} long"
    return "is not of the form that it must have"


def _kind_at(type_: type, at: str) -> inspect.Type | None:
    """Return the type at a path below a type, such as `.targets[0].format`; None if it is not known."""
    kind: inspect.Type | None = _not_none(inspect.type_info(type_))
    for key, _ in _STEPS.findall(at):
        if isinstance(kind, inspect.StructType) and key:
            kind = next((field.type for field in kind.fields if field.encode_name == key), None)
        elif isinstance(kind, inspect.VarTupleType) and not key:
            kind = kind.item_type
        elif isinstance(kind, inspect.DictType) and not key:
            kind = kind.value_type
        else:
            return None
        kind = _not_none(kind)
    return kind


def _printable(key: str) -> str:
    return key if key.isprintable() else ascii(key)


def _not_none(kind: inspect.Type | None) -> inspect.Type | None:
    if isinstance(kind, inspect.UnionType):
        return next((each for each in kind.types if not isinstance(each, inspect.NoneType)), None)
    return kind
