"""A finished event as one compressed value: the part of it that never changes, and its attempts.

Little repeats within a few hundred bytes, so small events are compressed with a preset dictionary of text
that events have. The value's first byte is the number of its dictionary; dictionaries are never removed.
"""

import zlib
from functools import cache
from importlib.resources import files

import msgspec

from shared.event.ids import received_ms
from shared.event.record import JSON
from shared.event.times import rfc3339_ms

DICTIONARY = 1
"""The dictionary that values are written with. A changed text is a new file, with the next number."""

_RAW = -15  # deflate without a header or a checksum: Redis checks what it keeps


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """The pieces that shared.event.record names, and the attempts: `<target> <lease>` → JSON of one."""

    attributes: bytes
    data: bytes
    body: bytes
    content_type: str = JSON
    attempts: dict[str, bytes] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packed).decode


def pack(event_id: str, event: Packed) -> bytes:
    """Return the compressed value."""
    return compress(event_id, _encode(event))


def unpack(event_id: str, value: bytes) -> Packed:
    """Return what `pack` was given.

    Raises: ValueError if neither this version nor an earlier one wrote it.
    """
    try:
        return _decode(decompress(event_id, value))
    except msgspec.MsgspecError:
        raise _later(event_id) from None


def compress(event_id: str, value: bytes) -> bytes:
    """Return something of an event compressed, with a dictionary of what events have."""
    deflate = zlib.compressobj(wbits=_RAW, zdict=_dictionary(DICTIONARY) + _own(event_id))
    return bytes([DICTIONARY]) + deflate.compress(value) + deflate.flush()


def decompress(event_id: str, value: bytes) -> bytes:
    """Return what `compress` was given.

    Raises: ValueError if neither this version nor an earlier one wrote it.
    """
    try:
        inflate = zlib.decompressobj(wbits=_RAW, zdict=_dictionary(value[0]) + _own(event_id))
        return inflate.decompress(value[1:])
    except (FileNotFoundError, zlib.error):
        raise _later(event_id) from None


def _later(event_id: str) -> ValueError:
    return ValueError(f"{event_id} was packed by a later version of Headrace")


@cache
def _dictionary(number: int) -> bytes:
    return (files("shared.event") / f"dictionary-{number}.txt").read_bytes()


def _own(event_id: str) -> bytes:
    # The attributes repeat the id, and the attempts' times begin like it.
    ms = received_ms(event_id)
    return f"{ms}{event_id}{rfc3339_ms(ms)}".encode()
