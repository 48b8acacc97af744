"""Events that this process admitted a moment ago, so that it need not read them from Redis to deliver them.

It is only a shortcut. The record in Redis is the truth: it stays while a delivery of the event is due, and
its content changes only if a person is erased from it, when no delivery is due.
"""

from time import monotonic
from typing import NamedTuple

from shared.event.record import EventRecord

KEEP_BYTES = 32 * 1024 * 1024
KEEP_S = 60.0
OVERHEAD = 512


class _Kept(NamedTuple):
    event: EventRecord
    bytes: int
    until: float


class Recent:
    """Recent events, bounded in bytes and in time.

    The oldest are delivered next, so if there is no room, a new one is left out.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._uses: dict[str, int] = {}
        self._bytes = 0

    def keep(self, event: EventRecord, uses: int) -> None:
        """Keep an event for `uses` deliveries, if there is room."""
        now = monotonic()
        while self._kept and (oldest := next(iter(self._kept.values()))).until < now:
            self._drop(oldest.event.id)
        size = OVERHEAD + len(event.attributes) + len(event.data) + len(event.body)
        if uses and self._bytes + size <= KEEP_BYTES and event.id not in self._kept:
            self._kept[event.id] = _Kept(event, size, now + KEEP_S)
            self._uses[event.id] = uses
            self._bytes += size

    def take(self, event_id: str) -> EventRecord | None:
        """Return an event, and forget it with its last use; None if it is not here, or not recent."""
        kept = self._kept.get(event_id)
        if kept is None:
            return None
        if kept.until < monotonic():
            self._drop(event_id)
            return None
        self._uses[event_id] -= 1
        if not self._uses[event_id]:
            self._drop(event_id)
        return kept.event

    def _drop(self, event_id: str) -> None:
        self._bytes -= self._kept.pop(event_id).bytes
        del self._uses[event_id]
