"""Strict reading of JSON bodies: exact numbers, bounded depth, one kind of error.

What the fields mean is left to the providers' adapters.
"""

import re
from itertools import accumulate
from typing import TypeAlias

import msgspec

from shared.errors import Unreadable

MAX_DEPTH = 512
"""How many objects and lists may stand inside one another: the parser, and the code that walks its result,
can do no more. A configuration may allow fewer; real payloads stay below ten.
"""

_WHITE_SPACE = b" \t\r\n"
_POSITION = re.compile(r"\(byte \d{1,12}\)$")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = [1 if byte in b"[{" else -1 for byte in range(256)]


class Number(msgspec.Struct, frozen=True):
    """A JSON number with a fraction or an exponent, as the text that stood in the body.

    Kept as text, because neither `float` (rounds) nor `Decimal` (raises on `1e99999999999999999999`)
    holds every number that JSON allows.
    """

    text: str


Json: TypeAlias = "bool | int | Number | str | list[Json] | dict[str, Json] | None"

_decoder = msgspec.json.Decoder(float_hook=Number)


def read(body: bytes, max_depth: int = MAX_DEPTH) -> Json:
    """Read strict UTF-8 JSON. If an object repeats a key, the last value counts.

    Refused: a byte order mark, UTF-16, `NaN`, lone surrogates, raw control characters in strings,
    trailing data, integers of more than 4,300 digits, more than `max_depth` levels (at most `MAX_DEPTH`).

    Raises: Unreadable (`empty`, `not-json`, `number-too-long`, `too-deep`).
    """
    try:
        value: Json = _decoder.decode(body)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except msgspec.ValidationError:
        # Without a type, the decoder finds only one value invalid: an integer past Python's digit limit.
        raise Unreadable("number-too-long", "a number in the body has too many digits") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if not body.strip(_WHITE_SPACE):
            raise Unreadable("empty", "the body is empty") from None
        # Only the position is reported: UnicodeDecodeError's own message shows a byte of the payload.
        position = _POSITION.search(str(error))
        detail = "the body is not strict UTF-8 JSON"
        raise Unreadable("not-json", f"{detail} {position[0]}" if position else detail) from None
    # Counting all brackets first is cheap, and few bodies have enough of them to be too deep.
    if body.count(b"[") + body.count(b"{") > max_depth and _depth(body) > max_depth:
        raise _too_deep(max_depth)
    return value


def read_object(body: bytes, max_depth: int = MAX_DEPTH) -> dict[str, Json]:
    """Read strict UTF-8 JSON whose outermost value is an object.

    Raises: Unreadable as `read` does, and with `not-an-object`.
    """
    value = read(body, max_depth)
    if not isinstance(value, dict):
        raise Unreadable("not-an-object", "the body's outermost value is not a JSON object")
    return value


def _depth(body: bytes) -> int:
    """Return how many containers stand inside one another in valid JSON.

    It counts the brackets of the text: walking the values takes three times as long.
    """
    brackets = _STRING.sub(b"", body).translate(None, _ALL_BUT_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _too_deep(max_depth: int) -> Unreadable:
    return Unreadable("too-deep", f"the body nests more than {max_depth} levels")
