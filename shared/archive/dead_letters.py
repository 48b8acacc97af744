"""The dead letters on disk: a table of SQLite, written through to the disk before a call returns.

Every call opens the file, runs one transaction and closes it. All calls block, so an event loop makes them in
a thread. A file that is not there reads as an empty one, and is made by the first write.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from shared.archive.letter import StoredLetter
from shared.archive.schema import dead_letters, prepare
from shared.errors import ArchiveUnavailable

BUSY_S = 10.0
_c = dead_letters.c


class Wanted(msgspec.Struct, frozen=True):
    """Which letters to read: of which targets (None: all), and when they died or came in, ends included."""

    targets: tuple[str, ...] | None = None
    died_ms: tuple[int, int] | None = None
    received_ms: tuple[int, int] | None = None


class DeadLetterFile:
    """The file of dead letters. All methods raise ArchiveUnavailable."""

    def __init__(self, url: str) -> None:
        self.path = Path(sql.make_url(url).database or "")
        # No pool: the next call then sees a file that was replaced, or a disk that came back.
        self._engine = sql.create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_S})
        sql.event.listen(self._engine, "connect", _write_through)
        self._prepared = False

    def exists(self) -> bool:
        """Tell whether the file exists: the first write makes it."""
        return self.path.exists()

    def add(self, letters: Sequence[StoredLetter], move: str) -> None:
        """Write the letters of a move. A letter that has arrived already stays as it is."""
        if not letters:
            return
        rows = [msgspec.structs.asdict(letter) | {"moving": move} for letter in letters]
        statement = insert(dead_letters)
        statement = statement.on_conflict_do_update(
            index_elements=["id", "target"],
            set_={column.name: statement.excluded[column.name] for column in dead_letters.c},
            where=_c.moving != "",
        )
        with self._writing() as connection:
            connection.execute(statement, rows)

    def arrived(self, keys: Sequence[tuple[str, str]], move: str) -> None:
        """Mark letters of a move as arrived: they are no longer in Redis."""
        with self._writing() as connection:
            for part in _parts(keys):
                connection.execute(
                    sql.update(dead_letters).where(_keyed(part), _c.moving == move).values(moving="")
                )

    def drop(self, keys: Sequence[tuple[str, str]], move: str) -> None:
        """Remove letters of a move that Redis has kept after all."""
        with self._writing() as connection:
            for part in _parts(keys):
                connection.execute(sql.delete(dead_letters).where(_keyed(part), _c.moving == move))

    def leave(self, target: str, ids: Sequence[str], move: str) -> list[StoredLetter]:
        """Mark letters as leaving with `move`. Returns those that are here, complete."""
        if not self.exists():
            return []
        here = [(id, target) for id in ids]
        with self._writing() as connection:
            connection.execute(sql.update(dead_letters).where(_keyed(here)).values(moving=move))
            found = connection.execute(sql.select(dead_letters).where(_keyed(here)))
            return [_letter(row) for row in found]

    def remove(self, letters: Sequence[StoredLetter]) -> None:
        """Remove letters that have left. One that died again meanwhile is another letter, and stays."""
        with self._writing() as connection:
            for part in _parts([(letter.id, letter.target, letter.died_ms) for letter in letters]):
                connection.execute(
                    sql.delete(dead_letters).where(sql.tuple_(_c.id, _c.target, _c.died_ms).in_(part))
                )

    def counts(self) -> dict[str, int]:
        """Return how many letters each target has here, without those that are being moved."""
        statement = (
            sql.select(_c.target, sql.func.count().label("count")).where(_c.moving == "").group_by(_c.target)
        )
        return {row.target: row[1] for row in self._read(statement)}

    def count(self, target: str, since_ms: int, until_ms: int) -> int:
        """Return how many letters of a target died between two times, without those that are being moved."""
        statement = sql.select(sql.func.count()).where(
            _c.target == target, _c.died_ms.between(since_ms, until_ms), _c.moving == ""
        )
        return int(next(iter(self._read(statement)), [0])[0])

    def moving(self, before: str = "~") -> list[StoredLetter]:
        """Return letters whose move began before the name `before`: a move's name begins with its time."""
        return self._letters(
            sql.select(*_without_body()).where(_c.moving != "", _c.moving < before).limit(1000)
        )

    def of_event(self, id: str) -> list[StoredLetter]:
        """Return all letters of an event, complete."""
        return self._letters(sql.select(dead_letters).where(_c.id == id).order_by(_c.target))

    def of_events(self, ids: Sequence[str]) -> list[StoredLetter]:
        """Return all letters of several events, without their bodies."""
        return self._letters(sql.select(*_without_body()).where(_c.id.in_(ids)).order_by(_c.target))

    def of_transaction(self, indexes: Sequence[str]) -> list[StoredLetter]:
        """Return all letters of events of these transactions, without their bodies."""
        return self._letters(sql.select(*_without_body()).where(_c.transaction_key.in_(indexes)))

    def whole(self, *, limit: int, after: StoredLetter | None = None) -> list[StoredLetter]:
        """Return a page of letters by event and target, complete, from `after` on; also of those that are
        being moved.
        """
        statement = sql.select(dead_letters).order_by(_c.id, _c.target).limit(limit)
        if after is not None:
            statement = statement.where(sql.tuple_(_c.id, _c.target) > after.key)
        return self._letters(statement)

    def replace(self, letters: Sequence[StoredLetter]) -> None:
        """Replace what letters hold. One that died again meanwhile, or has left, stays as it is."""
        names = ("attempts", "attributes", "data", "body", "content_type")
        with self._writing() as connection:
            for letter in letters:
                same = (_c.id == letter.id, _c.target == letter.target, _c.died_ms == letter.died_ms)
                kept = {name: getattr(letter, name) for name in names}
                connection.execute(sql.update(dead_letters).where(*same).values(kept))

    def scrub(self) -> None:
        """Write the file anew, so that it has nothing of what was removed or replaced."""
        with self._translated(), self._engine.connect() as connection:
            outside = connection.execution_options(isolation_level="AUTOCOMMIT")
            for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                outside.exec_driver_sql(statement)

    def by_death(
        self, wanted: Wanted, *, limit: int, after: StoredLetter | None = None, newest_first: bool = True
    ) -> list[StoredLetter]:
        """Return a page of letters by when they died, without their bodies, from `after` on."""
        return self._page((_c.died_ms, _c.id, _c.target), wanted, limit, after, newest_first=newest_first)

    def by_receipt(
        self, wanted: Wanted, *, limit: int, after: StoredLetter | None = None, newest_first: bool = True
    ) -> list[StoredLetter]:
        """Return a page of letters by when their events came in, without their bodies, from `after` on."""
        return self._page((_c.received_ms, _c.id, _c.target), wanted, limit, after, newest_first=newest_first)

    def expired(self, before_ms: int, limit: int) -> list[StoredLetter]:
        """Return some of the letters that died before a time, without their bodies."""
        return self._letters(
            sql.select(*_without_body()).where(_c.died_ms < before_ms, _c.moving == "").limit(limit)
        )

    def check(self) -> None:
        """Open the file and check its version; if there is no file, check that one can be made."""
        if self.exists():
            self.counts()
            return
        folder = self.path.parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ArchiveUnavailable(f"{self.path}: {folder} is no folder that can be written to")

    def _page(
        self,
        order: tuple[sql.Column[Any], ...],
        wanted: Wanted,
        limit: int,
        after: StoredLetter | None,
        *,
        newest_first: bool,
    ) -> list[StoredLetter]:
        statement = sql.select(*_without_body()).limit(limit)
        statement = statement.order_by(*(column.desc() if newest_first else column for column in order))
        if wanted.targets is not None:
            statement = statement.where(_c.target.in_(wanted.targets))
        for column, bounds in ((_c.died_ms, wanted.died_ms), (_c.received_ms, wanted.received_ms)):
            if bounds is not None:
                statement = statement.where(column.between(*bounds))
        if after is not None:
            here, there = sql.tuple_(*order), tuple(getattr(after, column.name) for column in order)
            statement = statement.where(here < there if newest_first else here > there)
        return self._letters(statement)

    def _letters(self, statement: sql.Select[Any]) -> list[StoredLetter]:
        return [_letter(row) for row in self._read(statement)]

    def _read(self, statement: sql.Select[Any]) -> Sequence[Any]:
        if not self.exists():
            return []
        with self._translated(), self._engine.connect() as connection:
            self._prepare(connection)
            return connection.execute(statement).all()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._translated():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.exists():
                self._prepared = False
                self.path.touch(mode=0o600)  # the events name people
            with self._engine.connect() as connection:
                self._prepare(connection)
                with connection.begin():
                    yield connection

    def _prepare(self, connection: Connection) -> None:
        """Make the tables and check their version, once for as long as the file is there."""
        if not self._prepared:
            prepare(connection)
            connection.commit()
            self._prepared = True

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ArchiveUnavailable as error:
            raise ArchiveUnavailable(f"{self.path} {error}") from None
        except (SQLAlchemyError, OSError) as error:
            # SQLAlchemy's own text shows the statement's values.
            cause = getattr(error, "orig", None) or error
            what = cause.strerror if isinstance(cause, OSError) else str(cause)
            raise ArchiveUnavailable(f"{self.path}: {what or type(cause).__name__}") from None


def _write_through(connection: Any, _: Any) -> None:
    # A reader never waits for a writer, what was committed is on the disk, and what was removed is
    # overwritten.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _without_body() -> list[sql.Column[Any]]:
    return [column for column in dead_letters.c if column is not _c.body]


def _keyed(keys: Sequence[tuple[str, str]]) -> sql.ColumnElement[bool]:
    return sql.tuple_(_c.id, _c.target).in_(keys)


def _parts(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(keys), 500):  # the most values that a statement of SQLite may have
        yield keys[start : start + 500]


def _letter(row: Any) -> StoredLetter:
    return StoredLetter(**row._mapping)
