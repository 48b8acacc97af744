"""Strict reading of JSON bodies: exact numbers, bounded depth, one kind of error.

What the fields mean is left to the providers' adapters.
"""

import re
from typing import TypeAlias

import msgspec

from shared.errors import Unreadable

MAX_DEPTH = 512
"""How many objects and lists may stand inside one another: what the parser and those who walk what it
returns can do. What a configuration allows is less (`within`); real payloads stay below ten."""

_WHITE_SPACE = b" \t\r\n"
_POSITION = re.compile(r"\(byte \d{1,12}\)$")


class Number(msgspec.Struct, frozen=True):
    """A JSON number with a fraction or an exponent, as the text that stood in the body.

    Kept as text, because neither `float` (rounds) nor `Decimal` (raises on `1e99999999999999999999`)
    holds every number that JSON allows.
    """

    text: str


Json: TypeAlias = "bool | int | Number | str | list[Json] | dict[str, Json] | None"

_decoder = msgspec.json.Decoder(float_hook=Number)


def read(body: bytes) -> Json:
    """Read strict UTF-8 JSON. Where an object repeats a key, the last value counts.

    Refused: a byte order mark, UTF-16, `NaN`, lone surrogates, raw control characters in strings,
    trailing data, integers of more than 4,300 digits, more than `MAX_DEPTH` levels.

    Raises: Unreadable (`empty`, `not-json`, `number-too-long`, `too-deep`).
    """
    try:
        value: Json = _decoder.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError:
        # The one thing an untyped decoder finds invalid is an integer past Python's digit limit.
        raise Unreadable("number-too-long", "a number in the body has too many digits") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if not body.strip(_WHITE_SPACE):
            raise Unreadable("empty", "the body is empty") from None
        # Only the position is passed on: UnicodeDecodeError's own message shows a byte of the payload.
        position = _POSITION.search(str(error))
        detail = "the body is not strict UTF-8 JSON"
        raise Unreadable("not-json", f"{detail} {position[0]}" if position else detail) from None
    if _brackets(body) > MAX_DEPTH and _deeper_than(MAX_DEPTH, value):
        raise _too_deep()
    return value


def within(max_depth: int, body: bytes) -> bool:
    """Tell whether a body nests at most `max_depth` levels; so does one that is no JSON at all.

    It is read for that only where it holds more brackets, as few do.
    """
    if _brackets(body) <= max_depth:
        return True
    try:
        return not _deeper_than(max_depth, _decoder.decode(body))
    except RecursionError:
        return False
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return True


def read_object(body: bytes) -> dict[str, Json]:
    """Read strict UTF-8 JSON whose outermost value is an object.

    Raises: Unreadable as `read` does, and with `not-an-object`.
    """
    value = read(body)
    if not isinstance(value, dict):
        raise Unreadable("not-an-object", "the body's outermost value is not a JSON object")
    return value


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _deeper_than(limit: int, value: Json) -> bool:
    """Tell whether containers stand more than `limit` deep, a level at a time and without recursion."""
    level = [value]
    for _ in range(limit + 1):
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return False
        level = [
            child for item in containers for child in (item.values() if isinstance(item, dict) else item)
        ]
    return True


def _too_deep() -> Unreadable:
    return Unreadable("too-deep", f"the body nests more than {MAX_DEPTH} levels")
