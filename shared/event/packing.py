"""A finished event as one compressed value: what of it never changes, and the attempts to deliver it.

A dictionary of what events look like makes small ones small: within a few hundred bytes little repeats. The
value's first byte says which dictionary it was written with; each is kept for good.
"""

import zlib
from functools import cache
from importlib.resources import files

import msgspec

from shared.event.ids import received_ms
from shared.event.record import JSON
from shared.event.times import rfc3339_ms

DICTIONARY = 1
"""What is written now. Another text is another file, with the next number."""

_RAW = -15  # deflate without a header or a checksum: Redis checks what it keeps


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """The pieces that shared.event.record names; and its attempts, as `<target> <lease>` → JSON of one."""

    attributes: bytes
    data: bytes
    body: bytes
    content_type: str = JSON
    attempts: dict[str, bytes] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packed).decode


def pack(event_id: str, event: Packed) -> bytes:
    """Return the compressed value."""
    deflate = zlib.compressobj(wbits=_RAW, zdict=_dictionary(DICTIONARY) + _own(event_id))
    return bytes([DICTIONARY]) + deflate.compress(_encode(event)) + deflate.flush()


def unpack(event_id: str, value: bytes) -> Packed:
    """Return what `pack` was given. Raises: ValueError if this version did not write it, nor one before."""
    try:
        inflate = zlib.decompressobj(wbits=_RAW, zdict=_dictionary(value[0]) + _own(event_id))
        return _decode(inflate.decompress(value[1:]))
    except (FileNotFoundError, zlib.error, msgspec.MsgspecError):
        raise ValueError(f"{event_id} was packed by a later version of Headrace") from None


@cache
def _dictionary(number: int) -> bytes:
    return (files("shared.event") / f"dictionary-{number}.txt").read_bytes()


def _own(event_id: str) -> bytes:
    # What its attributes repeat of its id, and the beginning of its attempts' times.
    ms = received_ms(event_id)
    return f"{ms}{event_id}{rfc3339_ms(ms)}".encode()
