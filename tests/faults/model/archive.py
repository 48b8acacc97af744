"""The store with a real archive beside it, one method for each step; and what operators are shown of both."""

from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sql

from shared.archive.database import Database, months_of
from shared.archive.reader import Reader
from shared.archive.search import Search
from shared.archive.tables import INDEXES
from shared.archive.writer import Writer
from shared.operations.archived import Archived
from shared.operations.archiving import Archiving
from shared.operations.events import Events
from shared.store.finished import Batch, Finished
from shared.store.views import CopyView, EventView
from shared.store.walk import ALWAYS
from tests.faults.model.product import Product

PAGE = 7  # so that a listing has several
MOST = 500


class ShownEvent(NamedTuple):
    """An event as a listing shows it. `deliveries`: target → state."""

    deliveries: dict[str, str]
    copies: int
    differing: int
    copy_of: str | None


class ShownCopy(NamedTuple):
    """A copy as a listing shows it."""

    of: str
    identical: bool | None


class ShownDelivery(NamedTuple):
    """A delivery as it is shown."""

    target: str
    state: str
    failed: int
    attempts: int


class WithArchive(Product):
    """The store, and an archive in a SQLite file that stays open: opening one takes as long as many steps."""

    archives = True
    copies_ms = 0

    def __init__(self, url: str, patch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(url, patch)
        archive_url = f"sqlite:///{folder / 'archive.db'}"
        self._database = Database(archive_url, keep_open=True)
        self._reader = Reader(self._database)
        self._writer = Writer(self._database)
        self._views_of_archive = Archived(self._reader)
        self._archiving = Archiving(self.client, archive_url)
        self._finished = Finished(self.client)
        self._events = Events(self.client, None, self._reader)

    def close(self) -> None:
        self._archiving.close()
        self._database.close()
        super().close()

    def start(self) -> None:
        """Begin anew, also in the archive; its tables stay."""
        super().start()
        with self._database.writing() as connection:
            for month in months_of(connection):
                for name in (*INDEXES, "texts"):
                    connection.execute(sql.text(f"DELETE FROM {name}_{month.name}"))  # noqa: S608
                words = f"words_{month.name}"
                connection.execute(sql.text(f"INSERT INTO {words} ({words}) VALUES ('delete-all')"))  # noqa: S608
        self.archived = frozenset()

    # Moving.

    def move_all(self) -> int:
        """Move what may be moved, as the worker with the duty does. Returns how many left Redis."""
        moved = self.run(self._archiving.move(self.clock.now_ms + 1))
        self._look()
        return moved.count

    def read_finished(self) -> Batch:
        """Read what may be moved."""
        return self.run(self._finished.oldest(self.clock.now_ms + 1, MOST))

    def write(self, batch: Batch) -> None:
        """Write what was read to the archive."""
        assert not self._writer.write(batch.events, batch.copies)
        self._look()

    def remove_archived(self, batch: Batch) -> int:
        """Remove from Redis what was written. Returns how many are gone."""
        return self.run(self._finished.remove(batch))

    def _look(self) -> None:
        with self._database.reading() as connection:
            self.archived = frozenset(
                id
                for month in months_of(connection)
                for name in ("events", "copies")
                for id in connection.scalars(sql.text(f"SELECT id FROM {name}_{month.name}"))  # noqa: S608
            )

    # Showing.

    def listed(self) -> dict[str, ShownEvent]:
        """List all events, page by page."""
        found: dict[str, ShownEvent] = {}
        before: str | None = None
        while page := self.run(self._events.events(Search(), PAGE, before)):
            before = page[-1].id
            assert not {view.id for view in page} & {*found}, "an event is listed once"
            found |= {view.id: _event(view) for view in page}
        return found

    def copies(self) -> dict[str, ShownCopy]:
        """List all recorded copies."""
        views = self.run(self._events.copies(ALWAYS, None, MOST))
        found = {view.id: ShownCopy(view.of, view.identical) for view in views}
        assert len(found) == len(views), "a copy is listed once"
        return found

    def found(self, id: str, sources: list[str]) -> ShownEvent | ShownCopy | str | None:
        """Return what a receipt stands for: an event, a copy, or the name of what else."""
        kept = self.run(self._events.find(id, sources))
        if isinstance(kept, EventView):
            return _event(kept)
        if isinstance(kept, CopyView):
            return ShownCopy(kept.of, kept.identical)
        return None if kept is None else type(kept).__name__

    def deliveries(self, id: str) -> list[ShownDelivery] | None:
        """Return the deliveries of an event."""
        found = self.run(self._events.deliveries(id))
        if found is None:
            return None
        return [ShownDelivery(each.target, each.state, each.failed, len(each.attempts)) for each in found]


def _event(view: EventView) -> ShownEvent:
    return ShownEvent(view.deliveries, view.copies, view.differing, view.copy_of)
