"""The model's way in: inbox, turns, admission, and admission by hand."""

from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar

from shared.event.ids import received_ms
from shared.store.admission import Admission, Place, Quarantine
from tests.faults.model.records import Copy, Delivery, Event, Kept, Quarantined, Received, World

WINDOW_MS = 6 * 3_600_000
RESEND_MS = 30 * 60_000
LATE_MS = 1000
EVENTS_MS = 24 * 3_600_000
LEFT_BEHIND_MS = 30_000
TURN_MS = 30_000  # two of the clock's quanta: so that one of them passes within a turn

Became = tuple[str, str, bool]
"""What became of a request, which one it is a copy of, whether the bodies differ."""


class Intake(World):
    copies_ms: ClassVar[int] = EVENTS_MS  # how long Redis keeps the record of a copy

    def receive(self, id: str, source: str, body: bytes) -> None:
        self.inbox.setdefault(source, {})[id] = Received(id, source, body)

    def take(self, source: str, consumer: str) -> list[str]:
        return [self._taken(entry, consumer) for entry in self._in(source) if entry.consumer is None]

    def take_over(self, source: str, consumer: str, *, own: bool = False) -> tuple[str, int] | None:
        """Take the oldest that was left behind; with `own` also what this consumer itself holds."""
        for entry in self._in(source):
            left = entry.consumer is not None and self.server - entry.taken >= LEFT_BEHIND_MS
            if left or (own and entry.consumer == consumer):
                entry.alone += 1
                return self._taken(entry, consumer), entry.alone
        return None

    def _in(self, source: str) -> list[Received]:
        return list(self.inbox.get(source, {}).values())

    def _taken(self, entry: Received, consumer: str) -> str:
        entry.consumer, entry.taken = consumer, self.server
        return entry.id

    def begin_turn(self, source: str, holder: str) -> bool:
        if source in self.turns:
            return False
        self.turns[source] = (holder, self.server + TURN_MS)
        return True

    def has_turn(self, source: str, holder: str) -> bool:
        """Tell whether it is this holder's turn."""
        return self.turns.get(source, ("", 0))[0] == holder

    def holds_turn(self, source: str, holder: str) -> bool:
        """Tell whether it is this holder's turn; asked at each admission, which prolongs it."""
        if not self.has_turn(source, holder):
            return False
        self.turns[source] = (holder, self.server + TURN_MS)
        return True

    def end_turn(self, source: str, holder: str) -> None:
        if self.has_turn(source, holder):
            del self.turns[source]

    # Admission.

    def admit(self, place: Place, source: str, batch: Sequence[Admission | Quarantine]) -> list[Became]:
        return [self._admit(place, source, item) for item in batch]

    def _admit(self, place: Place, source: str, item: Admission | Quarantine) -> Became:
        found = self._find(place, source, item.entry.id)
        if found is None:
            return "gone", "", False
        if isinstance(item, Quarantine) and place is not Place.INBOX:
            if place is Place.QUARANTINE:
                self.quarantine[found.id].code = item.code
            return "quarantined", "", False
        first = self._claim_key(source, item)
        became: Became
        if first != found.id and place is not Place.DUPLICATES:
            became = "duplicate", first, self._record(found, first)
        elif isinstance(item, Quarantine):
            self.quarantine[found.id] = Quarantined(found.id, source, found.body, code=item.code)
            became = "quarantined", "", False
        else:
            copy_of = self.first_of(found.id) if place is Place.DUPLICATES else ""
            self._write_event(found, item, copy_of).straight = place is Place.INBOX
            became = "admitted", "", False
        self._leave(place, source, found.id)
        return became

    def _find(self, place: Place, source: str, id: str) -> Kept | None:
        """Return a request as it stands in a place, with what it knows of its copies."""
        if place is Place.QUARANTINE:
            return self.quarantine.get(id)
        body = None
        if place is Place.INBOX:
            entry = self.inbox.get(source, {}).get(id)
            body = entry.body if entry and entry.consumer else None
        elif id in self.copies:
            body = self.body_of_copy(id)
        return None if body is None else Kept(id, source, body)

    def body_of_copy(self, id: str) -> bytes | None:
        """Return a copy's body; where it keeps none of its own, that of the first, if it is there still."""
        copies = self.archived_copies | self.copies
        while id in copies and id not in self.events:
            if copies[id].own_body:
                return copies[id].body
            id = copies[id].of
        first = self.first(id) or self.archived.get(id)
        return first.body if first else None

    def put_back(self, id: str) -> None:
        """Have an archived copy in Redis again: it can only be admitted from there."""
        if id in self.archived_copies and id not in self.copies and id not in self.events:
            self.copies[id] = deepcopy(self.archived_copies[id])
            self.copy_index.add(id)

    def first_of(self, id: str) -> str:
        """Return what a copy is a copy of in the end: its first may have become a copy itself."""
        while id in self.copies:
            id = self.copies[id].of
        return id

    def first(self, id: str) -> Kept | None:
        return self.events.get(id) or self.quarantine.get(id)

    def _claim_key(self, source: str, item: Admission | Quarantine) -> str:
        """Return who holds the item's dedupe key, or its bytes where it counts: itself, where nobody did."""
        dedupe = item.dedupe if isinstance(item, Admission) else None
        key = f"key {dedupe.parts}" if dedupe else f"body {item.entry.body!r}"
        first = item.entry.id
        if dedupe and dedupe.counts:
            key += f" {self.counters.get((source, dedupe.counts), (0, 0))[0]}"
            first = self._hold(source, f"bytes {item.entry.body!r}", first, RESEND_MS)
        if first == item.entry.id:
            first = self._hold(source, key, first, WINDOW_MS)
        return self.first_of(first)

    def _hold(self, source: str, key: str, id: str, within_ms: int) -> str:
        """Return who holds a key: for a window, and for what was received within so many ms after it."""
        holder, since = self.keys.get((source, key), ("", 0))
        if holder and self.holds(since) and received_ms(id) < received_ms(holder) + within_ms:
            return holder
        late = self.now - received_ms(id)
        self.keys[source, key] = id, received_ms(id) + (late if late >= LATE_MS else 0)
        return id

    def holds(self, since: int) -> bool:
        """Tell whether a key that is held since then still is."""
        return self.now < since + WINDOW_MS

    def _record(self, copy: Kept, first_id: str) -> bool:
        """Record a copy; it keeps its body where the first's is another, or cannot be told."""
        first = self.first(first_id)
        differs = first is not None and first.body != copy.body
        self.copies[copy.id] = Copy(
            copy.id,
            copy.source,
            copy.body,
            first_id,
            first is None or differs,
            differs,
            self.server + self.copies_ms,
        )
        self.copy_index.add(copy.id)
        if first:
            first.copies += 1 + copy.copies
            first.differing += differs + copy.differing
        return differs

    def _write_event(self, found: Kept, item: Admission, copy_of: str) -> Event:
        event = self.events[found.id] = Event(
            *(found.id, found.source, found.body, found.copies, found.differing),
            transaction=item.transaction,
            ordered=tuple(name for name in item.targets if item.transaction and name in item.in_order),
            copy_of=copy_of,
        )
        for target in item.targets:
            event.deliveries[target] = Delivery()
            self.enter(event, target)
        if item.dedupe and item.dedupe.raises:
            count, _ = self.counters.get((found.source, item.dedupe.raises), (0, 0))
            self.counters[found.source, item.dedupe.raises] = count + 1, self.server + WINDOW_MS
        return event

    def _leave(self, place: Place, source: str, id: str) -> None:
        if place is Place.INBOX:
            del self.inbox[source][id]
        elif place is Place.QUARANTINE:
            del self.quarantine[id]
        else:
            first, differs = self.first(self.first_of(id)), self.copies[id].differs
            if first and not self.copies[id].late:
                first.copies -= 1
                first.differing -= differs
            del self.copies[id]
            self.copy_index.remove(id)
