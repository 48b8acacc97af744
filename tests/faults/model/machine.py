"""The whole machine: what comes in, what goes out, and here what operators, sweeps and the clock do."""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.event.ids import stream_id
from shared.operations.readmissions import Held as HeldBack
from shared.operations.replays import Selection
from shared.routing.reading import POISON
from shared.store.admission import Admission, Entry, Place
from shared.store.due import End
from shared.store.sources import FORGOTTEN_AFTER_MS
from shared.store.targets import State as TargetState
from shared.store.walk import Span
from tests.faults.model.coming_in import ComingIn, letters, sources
from tests.faults.model.going_out import GoingOut, each, late_ends
from tests.faults.model.letters import Letter
from tests.faults.model.product import LEASE_MS
from tests.faults.model.records import State, Target
from tests.faults.model.run import ROUTES, one_of, seldom, targets

HOUR_MS = 3_600_000
EVER = Span(0, 10**14)
# In quanta of 15 s: what ends a turn, a lease, an hour, a dedupe window.
DAY = 5760
moves = st.sampled_from([1, 1, 2, 2, 2, 2, 4, 4, 240, 240, 1440])


often = st.sampled_from([True, True, True, False])
states = st.sampled_from([*[TargetState.ACTIVE] * 4, TargetState.PAUSED, TargetState.DISABLED])


# Of one key each.
look_alikes = st.lists(
    st.builds(
        Letter,
        key=st.just(0),
        variant=st.integers(0, 1),
        transaction=st.just("a"),
        bad=st.booleans(),
        counted=st.booleans(),
        raising=seldom,
    ),
    min_size=2,
    max_size=5,
)


class Machine(ComingIn, GoingOut):
    """A whole gateway."""

    @rule(quanta=moves)
    def time_passes(self, quanta: int) -> None:
        self.pass_time(quanta)

    # Targets.

    @rule(name=targets, state=states, twice=seldom)
    def set_state(self, name: str, state: TargetState, twice: bool) -> None:
        for _ in range(1 + twice):
            self.product.set_state(name, state)
        self.model.targets.setdefault(name, Target()).state = state.value

    @precondition(lambda self: self.having(State.WAITING))
    @rule(name=one_of(lambda run: run.having(State.WAITING)), everything=st.booleans(), twice=seldom)
    def give_up(self, name: str, everything: bool, twice: bool) -> None:
        before_ms = None if everything else self.model.now - HOUR_MS
        for _ in range(1 + twice):
            given_up = self.product.give_up(name, before_ms, hold=self.hold(name))
            assert given_up == self.model.give_up(name, before_ms, hold=self.hold(name))

    @precondition(lambda self: self.model.held)
    @rule(name=one_of(lambda run: sorted({name for name, _ in run.model.held})), twice=seldom)
    def let_go(self, name: str, twice: bool) -> None:
        """What a dead letter held goes on: the configuration says `continue` now."""
        for _ in range(1 + twice):
            assert self.product.find_held(name) == 0, "all of them are on record"
            assert self.product.let_go(name) == self.model.free(name)

    @rule(name=targets, there=st.sampled_from([True, True, False]), ordered=st.booleans(), hold=st.booleans())
    def configure(self, name: str, there: bool, ordered: bool, hold: bool) -> None:
        """A target leaves the configuration or comes back, and changes how it orders."""
        self.routes.pop(name, None)
        if there:
            self.routes[name] = msgspec.structs.replace(ROUTES[name], ordered=ordered, hold=hold)

    @rule()
    def sweep_the_names(self) -> None:
        """Say which targets are configured; give up and forget what none has been for long, as the sweep does."""
        forgotten = self.product.know(list(self.routes))
        self.model.on_record |= dict.fromkeys(self.routes, self.model.now)
        stale = [
            name for name, at in self.model.on_record.items() if at <= self.model.now - FORGOTTEN_AFTER_MS
        ]
        assert sorted(forgotten) == sorted(stale)
        for name in forgotten:
            self.product.release(name)
            self.model.release(name, LEASE_MS)
            assert self.product.give_up_all(name) == self.model.give_up_all(name)
            self.product.forget(name)
            self.model.forget(name)

    @precondition(lambda self: len(self.routes) < len(ROUTES))
    @rule(name=one_of(lambda run: sorted({*ROUTES} - {*run.routes})))
    def remove(self, name: str) -> None:
        assert self.product.remove(name) == self.model.remove(name)

    # By hand.

    @precondition(lambda self: self.accepted)
    @rule(
        ids=st.lists(one_of(lambda run: run.accepted), min_size=1, max_size=3),
        to=st.none() | targets,
        twice=seldom,
    )
    def replay(self, ids: list[str], to: str | None, twice: bool) -> None:
        self._replay(Selection(EVER, events=tuple(ids), to=to), list(dict.fromkeys(ids)), twice)

    @precondition(lambda self: self.having(State.DEAD, State.DONE, State.EXPIRED))
    @rule(to=st.none() | targets, twice=seldom)
    def replay_all(self, to: str | None, twice: bool) -> None:
        everything = sorted({*self.model.events, *self.model.archived})  # ids sort by receipt
        self._replay(Selection(EVER, to=to), everything, twice)

    def _replay(self, selection: Selection, ids: Sequence[str], twice: bool) -> None:
        for _ in range(1 + twice):
            replayed = self.product.replay(list(self.routes), selection)
            sent, other = Counter[str](), Counter[str]()
            for id in ids:
                event = self.model.known(id)
                if event is None:
                    continue
                own = [name for name in event.deliveries if name in self.routes]
                for target in own if selection.to is None else [selection.to]:
                    what = self.model.replay(target, id)
                    (sent if what == "replayed" else other)[target if what == "replayed" else what] += 1
            assert (replayed.deliveries, replayed.waiting, replayed.gone) == (dict(sent), other["waiting"], 0)

    @precondition(lambda self: self.having(State.DEAD))
    @rule(name=one_of(lambda run: run.having(State.DEAD)), twice=seldom)
    def replay_dead_letters(self, name: str, twice: bool) -> None:
        for _ in range(1 + twice):
            replayed = self.product.replay(list(self.routes), Selection(EVER, dead_letters_of=name))
            dead = [event.id for event, _ in self.model.of(name, State.DEAD)]
            assert replayed.total == len(dead)
            assert [self.model.replay(name, id) for id in dead] == ["replayed"] * len(dead)

    @precondition(lambda self: self.held_back)
    @rule(ids=st.lists(one_of(lambda run: run.held_back), min_size=1, max_size=4), twice=seldom)
    def readmit(self, ids: list[str], twice: bool) -> None:
        """Admit by hand what is in quarantine, or was taken for a copy."""
        receipts = tuple(ids)
        for _ in range(1 + twice):
            quarantined = [self._entry(id) for id in sorted({*receipts}) if id in self.model.quarantine]
            others = [id for id in sorted({*receipts}) if id not in self.model.quarantine]
            for id in others:
                self.model.put_back(id)
            bodies = [self.model.body_of_copy(id) if id in self.model.copies else None for id in others]
            copies = [self._entry(id) for id, body in zip(others, bodies, strict=True) if body is not None]
            groups = [(Place.QUARANTINE, quarantined), (Place.DUPLICATES, copies)]
            self._readmit(HeldBack(EVER, receipts=receipts), groups, bodies.count(None))

    @property
    def held_back(self) -> list[str]:
        return sorted({*self.model.quarantine, *self.model.copy_index, *self.model.archived_copies})

    @precondition(lambda self: self.model.quarantine)
    @rule(twice=seldom)
    def readmit_all(self, twice: bool) -> None:
        for _ in range(1 + twice):
            held = sorted(self.model.quarantine.values(), key=lambda held: (held.received, held.id))
            entries = [self._entry(item.id) for item in held if item.code != POISON]
            self._readmit(HeldBack(EVER), [(Place.QUARANTINE, entries)], 0)

    def _entry(self, id: str) -> Entry:
        held = self.model.quarantine.get(id) or self.model.copies[id]
        body = self.model.body_of_copy(id) if id in self.model.copies else held.body
        return Entry(stream_id(id), held.source, body or b"", {})

    def _readmit(self, held: HeldBack, groups: list[tuple[Place, list[Entry]]], gone: int) -> None:
        readmitted = self.product.readmit(self.reading, held)
        became: Counter[str] = Counter(gone=gone)
        for place, entries in groups:
            for source, part in _by_source(entries):
                items = [self.reading.read(entry) for entry in part]
                outcomes = self.model.admit(place, source, items)
                became.update(what for what, _, _ in outcomes)
                became["differing"] += sum(differs for _, _, differs in outcomes)
                became["deliveries"] += sum(
                    len(item.targets)
                    for item, (what, _, _) in zip(items, outcomes, strict=True)
                    if isinstance(item, Admission) and what == "admitted"
                )
        assert (readmitted.admitted, readmitted.duplicates) == (became["admitted"], became["duplicate"])
        assert (readmitted.differing, readmitted.gone) == (became["differing"], became["gone"])
        assert sum(readmitted.quarantined.values()) == became["quarantined"]
        assert sum(readmitted.deliveries.values()) == became["deliveries"]

    @rule(source=sources, key=st.integers(1, 3), letters=look_alikes, fixed=often, more=letters)
    def admit_look_alikes(
        self, source: str, key: int, letters: list[Letter], fixed: bool, more: list[Letter]
    ) -> None:
        """Requests come that look like copies or cannot be read, then others; an operator admits what was held back."""
        before = len(self.accepted)
        self.arrive(source, [msgspec.structs.replace(letter, key=key) for letter in letters], "w1")
        came = self.accepted[before:]
        self.arrive(source, more, "w1")
        self.reading.fixed = fixed
        held_back = {*self.held_back}
        if ids := [id for id in came if id in held_back]:
            self.readmit(ids, False)

    # Packing and retention.

    @precondition(lambda self: self.having(State.DONE, State.EXPIRED))
    @rule(quanta=st.sampled_from([0, 4, 4]))
    def pack(self, quanta: int) -> None:
        if quanta:
            self.pass_time(quanta)
        assert self.product.pack() == self.model.pack()

    @precondition(lambda self: self.model.quarantine or self.having(State.DEAD, State.DONE, State.EXPIRED))
    @rule(quanta=st.sampled_from([0, DAY, DAY, 3 * DAY]), under_pressure=seldom)
    def retain(self, quanta: int, under_pressure: bool) -> None:
        if quanta:
            self.pass_time(quanta)
        names = list(dict.fromkeys([*self.routes, *self.product.on_record()]))
        removed = self.product.retain(names, under_pressure=under_pressure)
        expected = self.model.retain(names, under_pressure=under_pressure, archives=self.product.archives)
        assert msgspec.structs.astuple(removed) == expected

    @precondition(lambda self: self.with_due)
    @rule(
        name=one_of(lambda run: run.with_due),
        each=each,
        late=late_ends,
        expire=st.booleans(),
        quanta=st.sampled_from([0, 4]),
        replayed=st.booleans(),
    )
    def overtake_long_ago(
        self, name: str, each: list[End], late: End, expire: bool, quanta: int, replayed: bool
    ) -> None:
        """A slow worker speaks up when its delivery was packed or has expired, and perhaps is replayed."""
        self.make_slow(name)
        self.deliver("w2", name, each, 0)
        if expire:
            self.retain(3 * DAY, False)
        else:
            self.deliver_all("w2")
            self.pack(quanta)
        if replayed:
            self.replay_all(None, False)
        if claims := self.claims_of(name):
            self._settle([(claimed, late) for claimed in claims], 0)


def _by_source(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    for source in dict.fromkeys(entry.source for entry in entries):
        yield source, [entry for entry in entries if entry.source == source]
