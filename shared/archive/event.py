"""An event as it moves between Redis and the archive: all that Redis held of it. It stands apart from the
tables, so that making one needs no SQL.
"""

import msgspec

from shared.event.packing import compress, decompress
from shared.event.record import JSON, EventRecord, Shown

OWN = frozenset({"attributes", "data", "body", "type", "open"})
"""Fields of an event's hash that ArchivedEvent has by name, or that are the same for every finished event."""


class ArchivedEvent(msgspec.Struct, frozen=True, array_like=True):
    """A finished event. `record` fields are those of `shared.event.record`.

    `fields` are the other fields of its hash in Redis (shared.store.keys), and `attempts` are its attempts,
    as they were there: so it can be put back as it was.
    """

    id: str
    attributes: bytes
    data: bytes
    body: bytes
    content_type: str
    fields: dict[str, bytes]
    attempts: dict[str, bytes]

    @property
    def record(self) -> EventRecord:
        """The event as it is delivered."""
        return EventRecord(self.id, self.attributes, self.data, self.body, self.content_type or JSON)

    @property
    def ends(self) -> dict[str, str]:
        """Target → how its delivery ended, in the order of the targets."""
        return {target: self.text(f"end:{target}") for target in self.text("targets").split(",") if target}

    def text(self, field: str) -> str:
        """Return a field of its hash as text, empty if it has none."""
        return self.fields.get(field, b"").decode()


class ArchivedCopy(msgspec.Struct, frozen=True, array_like=True):
    """A suppressed copy. `differs` is None if its first was gone when it came; `body` is None if it is the
    first's.
    """

    id: str
    source: str
    copy_of: str
    differs: bool | None
    digest: str
    headers: bytes
    body: bytes | None


class Known(msgspec.Struct, frozen=True):
    """What the archive knows of an event without opening its payload, as a listing shows it.

    `deliveries`: target → how its delivery ended, in the order of the targets.
    """

    id: str
    source: str
    type: str
    shown: Shown
    copies: int
    differing: int
    copy_of: str | None
    deliveries: dict[str, str]


_encode = msgspec.msgpack.Encoder().encode
_event = msgspec.msgpack.Decoder(ArchivedEvent).decode
_copy = msgspec.msgpack.Decoder(ArchivedCopy).decode


def to_payload(kept: ArchivedEvent | ArchivedCopy) -> bytes:
    """Return an event or a copy as one compressed value."""
    return compress(kept.id, _encode(kept))


def event_of(id: str, payload: bytes) -> ArchivedEvent:
    """Return the event that a payload holds. Raises: ValueError if a later version of Headrace wrote it."""
    try:
        return _event(decompress(id, payload))
    except msgspec.MsgspecError:
        raise ValueError(f"{id} was archived by a later version of Headrace") from None


def copy_of(id: str, payload: bytes) -> ArchivedCopy:
    """Return the copy that a payload holds. Raises: ValueError if a later version of Headrace wrote it."""
    try:
        return _copy(decompress(id, payload))
    except msgspec.MsgspecError:
        raise ValueError(f"{id} was archived by a later version of Headrace") from None
