"""Event ids: made from an event's entry in its inbox, so that the receipt in a 200 is the event's id.

`evt_` + 11 hex digits of the milliseconds at which Redis took it + 8 hex digits for the source + the
sequence number in hex. Ids sort by time, and an id leads back to its inbox entry.
"""

import re
from functools import lru_cache
from hashlib import sha256

PREFIX = "evt_"
EVENT_ID = re.compile(r"evt_[0-9a-f]{20,}")


@lru_cache(maxsize=4096)
def source_tag(source: str) -> str:
    """Return the 8 hex digits that stand for a source in its events' ids."""
    return sha256(source.encode()).hexdigest()[:8]


def event_id(source: str, stream_id: str) -> str:
    """Return the id of the event at `stream_id` (`<ms>-<seq>`) of a source's inbox."""
    ms, _, seq = stream_id.partition("-")
    return f"{_beginning(source, ms)}{int(seq):x}"


@lru_cache(maxsize=64)
def _beginning(source: str, ms: str) -> str:
    # All events of a source and a millisecond begin so; a batch has few such beginnings.
    return f"{PREFIX}{int(ms):011x}{source_tag(source)}"


def tag_of(event_id: str) -> str:
    """Return the `source_tag` of the source that an event came from."""
    return event_id[15:23]


def received_ms(event_id: str) -> int:
    """Return when Redis took the event, in milliseconds since 1970. Raises: ValueError."""
    if not EVENT_ID.fullmatch(event_id):
        raise ValueError("not an event id")
    return int(event_id[4:15], 16)


def stream_id(event_id: str) -> str:
    """Return the inbox entry's id that an event id was made from. Raises: ValueError."""
    return f"{received_ms(event_id)}-{int(event_id[23:], 16)}"
