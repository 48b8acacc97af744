"""The machine with an archive: its finished events and copies move there, and come back if they are sent again."""

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.store.finished import Batch
from tests.faults.model.archive import WithArchive
from tests.faults.model.machine import Machine
from tests.faults.model.moving import Moving, Read
from tests.faults.model.run import SOURCES, one_of, picked, picks, seldom, targets


class ArchivedMachine(Machine):
    """A whole gateway with an archive."""

    product: ClassVar[WithArchive]
    model: Moving

    def __init__(self) -> None:
        super().__init__()
        self.model = Moving(now=self.model.now, server=self.model.server)
        self.moves: list[tuple[Batch, Read]] = []

    @property
    def movable(self) -> list[str]:
        """What has finished, and copies."""
        return [*(e.id for e in self.model.events.values() if not e.open), *self.model.copies]

    @precondition(lambda self: self.movable)
    @rule()
    def move(self) -> None:
        batch = self.model.read_finished()
        moved = self.product.move_all()
        self.model.write(batch)
        assert moved == self.model.remove_archived(batch)
        self.look()

    @precondition(lambda self: self.movable)
    @rule()
    def move_half_way(self) -> None:
        """A worker dies, or is slow, when it has written and not removed yet."""
        batch, read = self.product.read_finished(), self.model.read_finished()
        assert {each.id for each in batch.events} == {event.id for event in read.events}
        assert {each.id for each in batch.copies} == {copy.id for copy in read.copies}
        self.product.write(batch)
        self.model.write(read)
        self.remember(self.moves, (batch, read))
        self.look()

    @precondition(lambda self: self.moves)
    @rule(pick=picks, twice=seldom)
    def remove_at_last(self, pick: int, twice: bool) -> None:
        """A slow worker removes what it has written, whatever became of it since."""
        batch, read = picked(self.moves, pick)
        for _ in range(1 + twice):
            assert self.product.remove_archived(batch) == self.model.remove_archived(read)
        self.look()

    @precondition(lambda self: self.movable)
    @rule(to=st.none() | targets, worker=st.just("w1"), pack=st.booleans(), removes=st.booleans())
    def change_while_it_moves(self, to: str | None, worker: str, pack: bool, removes: bool) -> None:
        """What was written is sent again, perhaps arrives, and perhaps is packed; then it is to be removed."""
        self.move_half_way()
        self.replay_all(to, False)
        if self.with_due:
            self.deliver_all(worker)
        if pack:
            self.pack(4)
        if removes:
            self.remove_at_last(0, False)

    @precondition(lambda self: self.model.archived)
    @rule(
        ids=st.lists(one_of(lambda run: sorted(run.model.archived)), min_size=1, max_size=3),
        to=st.none() | targets,
    )
    def replay_archived(self, ids: list[str], to: str | None) -> None:
        self.replay(ids, to, False)
        self.look()

    @rule()
    def look(self) -> None:
        """An operator lists all that there is."""
        assert self.product.listed() == self.model.listed()
        assert self.product.copies() == self.model.shown_copies()

    @precondition(lambda self: self.accepted)
    @rule(id=one_of(lambda run: run.accepted))
    def look_at(self, id: str) -> None:
        """An operator asks for one receipt."""
        assert self.product.found(id, list(SOURCES)) == self.model.found(id)
        assert self.product.deliveries(id) == self.model.deliveries(id)
