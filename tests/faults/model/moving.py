"""The model's archive: what moves there, and what operators must be shown of it and of Redis together."""

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

from tests.faults.model.archive import ShownCopy, ShownDelivery, ShownEvent
from tests.faults.model.model import Model
from tests.faults.model.records import Copy, Delivery, Event, State

FOR_EVER_MS = 10**15


@dataclass
class Read:
    """What was read to be moved, as it was then."""

    events: list[Event]
    copies: list[Copy]


class Moving(Model):
    """A store whose finished events and copies move to an archive."""

    copies_ms: ClassVar[int] = FOR_EVER_MS

    def read_finished(self) -> Read:
        """Read all that may be moved."""
        return Read(
            deepcopy([event for event in self.events.values() if not event.open]),
            deepcopy([*self.copies.values()]),
        )

    def write(self, batch: Read) -> None:
        """Write what was read: what is archived already is replaced."""
        for event in batch.events:
            self.archived[event.id] = deepcopy(event)
            self.archived_copies.pop(event.id, None)
        for copy in batch.copies:
            self.archived_copies[copy.id] = deepcopy(copy)

    def remove_archived(self, batch: Read) -> int:
        """Remove what was written from Redis, but for events that changed since. Returns how many are gone."""
        removed = len(batch.copies)
        for event in batch.events:
            now = self.events.get(event.id)
            if now is None or (not now.open and now == event):
                self.events.pop(event.id, None)
                removed += 1
        for copy in batch.copies:
            self.copies.pop(copy.id, None)
            self.copy_index.discard(copy.id)
        return removed

    # Shown.

    def listed(self) -> dict[str, ShownEvent]:
        """Return all events as they are shown, wherever they are."""
        return {id: self.shown_event(id) for id in {*self.events, *self.archived}}

    def shown_event(self, id: str) -> ShownEvent:
        event = self.events.get(id) or self.archived[id]
        copies, differing = event.copies, event.differing
        if id not in self.events:  # then its record could not count them
            late = [copy for copy in self.archived_copies.values() if copy.late and copy.of == id]
            copies += len(late)
            differing += sum(copy.body != event.body for copy in late)
        states = {target: _state(delivery) for target, delivery in event.deliveries.items()}
        states = {target: "waiting" if state == "in-flight" else state for target, state in states.items()}
        return ShownEvent(states, copies, differing, event.copy_of or None)

    def shown_copies(self) -> dict[str, ShownCopy]:
        """Return all copies as they are shown."""
        ids = {*self.copies, *(id for id in self.archived_copies if id not in self.events)}
        return {id: self.shown_copy(id) for id in ids}

    def shown_copy(self, id: str) -> ShownCopy:
        copy = self.copies.get(id)
        if copy is not None:
            return ShownCopy(copy.of, None if copy.late else not copy.differs)
        copy = self.archived_copies[id]
        first = self.archived.get(copy.of)
        if not copy.late:
            return ShownCopy(copy.of, not copy.differs)
        return ShownCopy(copy.of, None if first is None else first.body == copy.body)

    def found(self, id: str) -> ShownEvent | ShownCopy | str | None:
        """Return what a receipt stands for."""
        if id in self.copies:
            return self.shown_copy(id)
        if self.known(id):
            return self.shown_event(id)
        if id in self.quarantine:
            return "QuarantineView"
        if any(id in entries for entries in self.inbox.values()):
            return "InboxView"
        return self.shown_copy(id) if id in self.archived_copies else None

    def deliveries(self, id: str) -> list[ShownDelivery] | None:
        """Return an event's deliveries as they are shown."""
        event = self.known(id)
        if event is None:
            return None
        return [
            ShownDelivery(target, _state(delivery), delivery.failed, len(delivery.attempts))
            for target, delivery in event.deliveries.items()
        ]


def _state(delivery: Delivery) -> str:
    return "in-flight" if delivery.state is State.LEASED else delivery.state.value
