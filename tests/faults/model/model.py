"""What the store must do, said as simply as can be: dicts, lists and sets, one process, no expiry by itself.

Written from the contract (README.md, "What it promises"; `shared/store/keys.py`), to be obviously right. Where a
method answers, it answers what the store must answer.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy

from shared.delivery.verdicts import REMOVED, GivenUp, Reason
from shared.event.ids import received_ms
from tests.faults.model.intake import EVENTS_MS, Intake
from tests.faults.model.records import Delivery, Event, State, Target

DEAD_LETTERS_MS = 3 * EVENTS_MS
LAPSES_UNCHARGED = 2
PACKED_AFTER_MS = 60_000
TOO_OLD = Reason(GivenUp.AGE, "gave up: too old")


class Model(Intake):
    """The whole store. Deliveries and retention here; what comes in is Intake's."""

    # Deliveries.

    def of(self, target: str, *states: State) -> Iterator[tuple[Event, Delivery]]:
        """Yield a target's deliveries in these states, in the order of their times and then ids."""
        found = [
            (delivery.at, event.id)
            for event in self.events.values()
            if (delivery := event.deliveries.get(target)) and delivery.state in states
            if delivery.at is not None
        ]
        for _, id in sorted(found):
            yield self.events[id], self.events[id].deliveries[target]

    def claim(self, target: str, most: int, concurrency: int, lease_ms: int) -> list[tuple[Event, Delivery]]:
        if self.targets.setdefault(target, Target()).state != "active":
            return []
        room = min(most, concurrency - len(list(self.of(target, State.LEASED))))
        claimed = self.due(target)[: max(0, room)]
        for _, delivery in claimed:
            delivery.state, delivery.at = State.LEASED, self.now + lease_ms
        return claimed

    def due(self, target: str) -> list[tuple[Event, Delivery]]:
        return [(e, d) for e, d in self.of(target, State.WAITING) if d.at is not None and d.at <= self.now]

    def settle(
        self, target: str, id: str, token: int, end: str, delay_ms: int, age_ms: int, *, hold: bool
    ) -> bool:
        """End a claim; the attempt is recorded but of a hand-back. Tells whether that changed anything."""
        event = self.events.get(id)
        if event is None:
            return False
        delivery = event.deliveries[target]
        mine = delivery.state is State.LEASED and delivery.at == token
        if end == "done":
            if not mine and (token in delivery.attempts or token <= event.packed_before):
                return False  # said before
            delivery.attempts.add(token)
            if not delivery.state.open:
                return False
            delivery.state, delivery.at, delivery.why = State.DONE, None, ""
            self.leave_lane(event, target)
            return True
        if not mine:
            return False
        if end == "back":
            delivery.state, delivery.at = State.WAITING, self.now
            return True
        delivery.attempts.add(token)
        delivery.failed += 1
        if end == "retry":
            delivery.state, delivery.at = State.WAITING, self.now + delay_ms
            delivery.age_ms = age_ms
        else:
            self._die(event, target, TOO_OLD, hold=hold)
        return True

    def gone(self, target: str) -> None:
        """A target said that it is no more."""
        if self.targets.setdefault(target, Target()).state == "active":
            self.targets[target].state = "disabled"

    def _die(self, event: Event, target: str, why: Reason, *, hold: bool) -> None:
        delivery = event.deliveries[target]
        delivery.state, delivery.at, delivery.why = State.DEAD, self.now, str(why)
        if not hold:
            self.leave_lane(event, target)
        elif target in event.ordered:
            self.held.add((target, event.transaction))

    def free(self, target: str) -> int:
        """Transactions that a dead letter holds go on."""
        held = sorted(transaction for name, transaction in self.held if name == target)
        for transaction in held:
            first = self.events[self.lanes[target, transaction][0]]
            self.leave_lane(first, target)
        return len(held)

    def release(self, target: str, lease_ms: int) -> tuple[int, list[tuple[str, int, int, int]]]:
        back, spent = 0, []
        for event, delivery in list(self.of(target, State.LEASED)):
            if delivery.at is not None and delivery.at <= self.now:
                delivery.lapsed += 1
                if delivery.lapsed % LAPSES_UNCHARGED == 0:
                    delivery.at = self.now + lease_ms
                    spent.append((event.id, delivery.failed, delivery.age_ms, delivery.at))
                else:
                    delivery.state, delivery.at = State.WAITING, self.now
                    back += 1
        return back, spent

    def give_up(self, target: str, before_ms: int | None, *, hold: bool, why: Reason = TOO_OLD) -> int:
        waiting = [
            event
            for event, delivery in self.of(target, State.WAITING)
            if before_ms is None or (delivery.at is not None and delivery.at <= before_ms)
        ]
        for event in waiting:
            self._die(event, target, why, hold=hold)
        return len(waiting)

    def replay(self, target: str, id: str) -> str:
        event = self.events.get(id) or self.bring_back(id)
        if event is None:
            return "gone"
        before = event.deliveries.get(target)
        if before and before.state in (State.WAITING, State.LEASED):
            return "waiting"
        attempts = before.attempts if before else set()
        event.deliveries[target] = Delivery(attempts=attempts, by_hand=True)
        event.packed = None
        self.enter(event, target)
        return "replayed"

    def bring_back(self, id: str) -> Event | None:
        """Have an archived event in Redis again, as it was there, but not packed."""
        if id not in self.archived:
            return None
        event = self.events[id] = deepcopy(self.archived[id])
        event.packed, event.packed_before = None, 0
        return event

    def remove(self, target: str) -> int:
        """Give up all that waits for a target that left the configuration, until nothing does."""
        total = self.give_up_all(target)
        self.forget(target)
        return total

    def give_up_all(self, target: str) -> int:
        total, let_go = 0, True
        while let_go:
            let_go = bool(self.free(target))
            while count := self.give_up(target, None, hold=False, why=REMOVED):
                total += count
        return total

    def forget(self, target: str) -> None:
        if not list(self.of(target, State.WAITING, State.LEASED, State.DEAD)):
            self.on_record.pop(target, None)
            self.targets.pop(target, None)

    # Packing and retention.

    def pack(self) -> int:
        """Pack what has finished: nobody sees it, but for a success that is said again from before."""
        packed = [
            event
            for event in self.events.values()
            if not event.open and event.packed is None and event.received <= self.now - PACKED_AFTER_MS
        ]
        for event in packed:
            tokens = [token for delivery in event.deliveries.values() for token in delivery.attempts]
            event.packed = event.packed_before = max([self.now, *tokens])
        return len(packed)

    def retain(
        self, targets: Iterable[str], *, under_pressure: bool, archives: bool
    ) -> tuple[int, int, int, int]:
        dead_before = self.now - DEAD_LETTERS_MS
        before = self.now if under_pressure else self.now - EVENTS_MS
        if archives:
            before = 0
        dead = 0
        for target in targets:
            for event, delivery in list(self.of(target, State.DEAD)):
                if delivery.at is not None and delivery.at <= dead_before:
                    delivery.state, delivery.at = State.EXPIRED, None
                    self.leave_lane(event, target)
                    dead += 1
        unread = [id for id, held in self.quarantine.items() if held.received <= dead_before]
        for id in unread:
            del self.quarantine[id]
        events = [e.id for e in self.events.values() if not e.open and e.received <= before]
        for id in events:
            del self.events[id]
        copies = [id for id in self.copy_index if received_ms(id) <= before]
        for id in copies:
            self.copy_index.remove(id)
            self.copies.pop(id, None)
        self.let_go.update(events, unread, copies)
        return len(events), dead, len(unread), len(copies)
