"""The rules of what comes in: received, taken, admitted, in turn or not."""

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from shared.store.admission import Entry, Place
from shared.store.inbox import IN_TURN
from tests.faults.model.clock import QUANTUM_MS
from tests.faults.model.intake import WINDOW_MS
from tests.faults.model.letters import Letter
from tests.faults.model.run import FREE, SOURCES, STRICT, Batch, Run, one_of, picked, picks, seldom, workers

sources = st.sampled_from(SOURCES)
letters = st.lists(
    st.builds(
        Letter,
        key=st.integers(0, 8),
        variant=st.integers(0, 2),
        transaction=st.sampled_from(["a", "a", "b", ""]),
        bad=seldom,
        counted=seldom,
        raising=seldom,
        unwanted=st.sampled_from([*[False] * 11, True]),
    ),
    min_size=1,
    max_size=4,
)


class ComingIn(Run):
    """Ingress and admission."""

    @rule(source=sources, letters=letters)
    def ingest(self, source: str, letters: list[Letter]) -> None:
        bodies = [msgspec.json.encode(letter) for letter in letters]
        ids = self.product.ingest(source, bodies)
        assert len(set(ids)) == len(bodies)
        assert not {*ids} & {*self.accepted}, "a receipt that was given before"
        self.accepted += ids
        self.sent += [(source, letter) for letter in letters]
        for id, body in zip(ids, bodies, strict=True):
            self.model.receive(id, source, body)

    @precondition(lambda self: self.untaken(FREE))
    @rule(worker=workers, lost=seldom)
    def take(self, worker: str, lost: bool) -> None:
        entries = self.product.take(FREE, worker)
        assert [entry.id for entry in entries] == self.model.take(FREE, worker)
        if entries and not lost:
            self.remember(self.batches, Batch(worker, FREE, entries))

    @precondition(lambda self: len(self.model.inbox.get(FREE, {})) > len(self.untaken(FREE)))
    @rule(worker=workers, lost=seldom)
    def take_over(self, worker: str, lost: bool) -> None:
        entry = self.product.take_over(FREE, worker)
        assert _seen(entry) == self.model.take_over(FREE, worker)
        if entry and not lost:
            self.remember(self.batches, Batch(worker, FREE, [entry]))

    @precondition(lambda self: self.model.inbox.get(STRICT))
    @rule(worker=workers, lost=seldom)
    def begin_turn(self, worker: str, lost: bool) -> None:
        """Begin one and take in it; if its reply is lost, what it took is left behind."""
        holder = f"{worker}:{self.model.now}"
        entries = self.product.begin_turn(STRICT, holder)
        assert (entries is not None) == self.model.begin_turn(STRICT, holder)
        if entries is None:
            return
        turn = Batch(worker, STRICT, [], holder)
        if not lost:
            self.remember(self.turns, turn)
        self._took_in_turn(turn, entries, lost)

    @precondition(lambda self: self.turns)
    @rule(pick=picks, lost=seldom)
    def take_in_turn(self, pick: int, lost: bool) -> None:
        """Take, even after its turn: it has been suspended since, and gets nothing."""
        turn = picked(self.turns, pick)
        entries = self.product.take_in_turn(STRICT, turn.turn)
        assert (entries is not None) == self.model.has_turn(STRICT, turn.turn), "it was another's turn"
        if entries is not None:
            self._took_in_turn(turn, entries, lost)

    def _took_in_turn(self, turn: Batch, entries: list[Entry], lost: bool) -> None:
        left = self.model.take_over(STRICT, IN_TURN, own=True)
        if left:
            [entry] = entries
            assert _seen(entry) == left
        else:
            assert [entry.id for entry in entries] == self.model.take(STRICT, IN_TURN)
        if not entries:
            self.model.end_turn(STRICT, turn.turn)
        elif not lost:
            self.remember(self.batches, Batch(turn.worker, STRICT, entries, turn.turn))

    @precondition(lambda self: self.turns)
    @rule(pick=picks)
    def end_turn(self, pick: int) -> None:
        turn = picked(self.turns, pick)
        self.product.end_turn(STRICT, turn.turn)
        self.model.end_turn(STRICT, turn.turn)

    @precondition(lambda self: self.batches)
    @rule(pick=picks, first=st.integers(0, 2), most=st.integers(1, 6), twice=seldom)
    def admit(self, pick: int, first: int, most: int, twice: bool) -> None:
        """Admit some of a batch; in turn, as workers do, from its beginning."""
        batch = picked(self.batches, pick)
        start = 0 if batch.turn else first
        for _ in range(1 + twice):
            self._admit(batch, start, start + most)

    def _admit(self, batch: Batch, start: int, stop: int) -> None:
        items = [self.reading.read(entry) for entry in batch.entries[start:stop]]
        outcomes = self.product.admit(batch.source, items, batch.turn) if items else []
        if batch.turn and not self.model.holds_turn(batch.source, batch.turn):
            assert outcomes is None, "it was another's turn"
            return
        assert outcomes is not None
        became = [(outcome.what, outcome.of, outcome.differs) for outcome in outcomes]
        assert became == self.model.admit(Place.INBOX, batch.source, items)
        if batch.turn and "admitted" in [what for what, _, _ in became]:
            last = max(o.entry.id for o in outcomes if o.what == "admitted")
            assert not [id for id in self.model.inbox[STRICT] if id < last], "an older one waits still"

    @rule(letters=letters, worker=workers)
    def admit_for_longer_than_a_turn(self, letters: list[Letter], worker: str) -> None:
        """Each admission prolongs the turn."""
        self.ingest(STRICT, letters)
        self.begin_turn(worker, False)
        for _ in range(2):
            self.pass_time(1)
            if self.batches:
                self.admit(0, 0, 1, False)

    @rule(source=sources, letters=letters, worker=workers)
    def arrive(self, source: str, letters: list[Letter], worker: str) -> None:
        """All of it at once, as on most days."""
        self.ingest(source, letters)
        self._admit_new(source, worker)

    def _admit_new(self, source: str, worker: str) -> None:
        if source == FREE:
            self.take(worker, False)
        else:
            self.begin_turn(worker, False)
        if self.batches:
            self.admit(0, 0, 6, False)
        if source == STRICT and self.turns:
            self.end_turn(0)

    @initialize(free=letters, strict=letters, more=letters)
    def begin(self, free: list[Letter], strict: list[Letter], more: list[Letter]) -> None:
        """A run that starts from nothing is half over when something happens."""
        self.arrive(FREE, free, "w1")
        self.arrive(STRICT, strict, "w1")
        self.arrive(STRICT, more, "w2")

    def untaken(self, source: str) -> list[str]:
        return [e.id for e in self.model.inbox.get(source, {}).values() if e.consumer is None]

    @precondition(lambda self: self.sent)
    @rule(
        sent=st.lists(one_of(lambda run: run.sent), min_size=1, max_size=3),
        otherwise=st.booleans(),
        late=seldom,
    )
    def send_again(self, sent: list[tuple[str, Letter]], otherwise: bool, late: bool) -> None:
        """A provider repeats itself, perhaps in other words: what was readable is not any more, or is now.

        `late`: it is admitted when what it repeats is out of the window.
        """
        for source, letter in sent:
            again = msgspec.structs.replace(letter, bad=not letter.bad) if otherwise else letter
            self.ingest(source, [again])
            if late:
                self.pass_time(WINDOW_MS // QUANTUM_MS)
            self._admit_new(source, "w1")

    @precondition(lambda self: self.model.quarantine)
    @rule()
    def fix_or_break_the_adapter(self) -> None:
        self.reading.fixed = not self.reading.fixed


def _seen(entry: Entry | None) -> tuple[str, int] | None:
    return (entry.id, entry.takes_alone) if entry else None
