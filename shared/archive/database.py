"""The archive's database: its connections, its months, and its errors as ours. All calls block."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from shared.archive import texts
from shared.archive.months import Month, month_of, named
from shared.archive.sealing import Sealer
from shared.archive.tables import INDEXES, tables
from shared.archive.versions import take_up
from shared.errors import ArchiveBusy, ArchiveRefused, ArchiveUnavailable, ArchiveUnfit
from shared.secrets import Secret

WAIT_S = 10
STATEMENT_S = 60
MOMENT_MS = 500
MONTHLY = (*INDEXES, "texts")
# PostgreSQL's codes: no privilege, no such user, wrong password, no such database; a value too long to index.
_DENIED, _TOO_LONG = ("42501", "28000", "28P01", "3D000"), "54000"
_LOCKED = "55P03"
_READING = 0x6865616472656164  # any number that others do not use


class Database:
    """The database that a URL names. All methods raise ArchiveUnavailable, also ArchiveUnfit."""

    def __init__(self, url: str, keys: Sequence[Secret] = (), *, keep_open: bool = False) -> None:
        """`keys` are `archive.encryption_keys`. `keep_open`: connections are kept for the next call, until
        `close`.
        """
        self.sealer = Sealer(keys)
        self.shown = sql.make_url(url).set(password=None).render_as_string()
        self._engine = _engine(url, keep_open=keep_open)
        self._path = Path(self._engine.url.database or "") if self._engine.dialect.name == "sqlite" else None
        self._file: tuple[int, int] | None = None
        self._taken_up = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection that sees one moment of the database."""
        with self._translated(), self._connected() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                # The tables of a month that this has seen stay until it has ended: see `dropping`.
                connection.execute(sql.text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": _READING})
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a connection whose work is on the disk when this ends, or undone if it raises."""
        with self._translated(), self._connected(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """Open a connection for statements that run outside of any transaction."""
        with self._translated(), self._connected() as connection:
            if self.is_postgresql:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection.execution_options(alone=True)

    @property
    def is_postgresql(self) -> bool:
        """Whether it is PostgreSQL, and not SQLite."""
        return self._path is None

    @contextmanager
    def _connected(self, *, writes: bool = False) -> Iterator[Connection]:
        self._look_at_file()
        with self._engine.connect() as connection:
            if not self._taken_up:
                connection.execution_options(writes=True)
                with connection.begin():
                    take_up(connection)
                self._taken_up = True
            connection.execution_options(writes=writes)
            yield connection

    @contextmanager
    def dropping(self) -> Iterator[Connection]:
        """Open a connection as `writing` does, to drop tables by: nobody reads them meanwhile.

        Raises: ArchiveBusy if that would need a wait of more than a moment for those who do.
        """
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":  # in SQLite a reader sees them until it has ended
                # Who comes after waits behind this one. Less than PostgreSQL's `deadlock_timeout`: of two
                # that wait for each other, this one gives in.
                connection.execute(sql.text(f"SET LOCAL lock_timeout = '{MOMENT_MS}ms'"))
                connection.execute(sql.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _READING})
            yield connection

    def drop_month(self, connection: Connection, month: Month) -> None:
        """Drop the tables of a month, by a connection of `dropping`."""
        if connection.dialect.name == "postgresql":
            for name in MONTHLY:
                connection.execute(sql.text(f"DROP TABLE IF EXISTS {name}_{month.name}"))
        else:
            tables(month).metadata.drop_all(connection)
            texts.drop_in_sqlite(connection, month)
            make_views(connection)

    def make_month(self, connection: Connection, month: Month) -> None:
        """Make the tables of a month, unless it has them."""
        months = months_of(connection)
        if month in months:
            return
        if connection.dialect.name == "postgresql":
            bounds = f"FROM ('{month.first_id}') TO ('{month.next.first_id}')"
            for name in MONTHLY:
                partition = f"{name}_{month.name} PARTITION OF {name} FOR VALUES {bounds}"
                connection.execute(sql.text(f"CREATE TABLE IF NOT EXISTS {partition}"))
        else:
            tables(month).metadata.create_all(connection)
            texts.create_in_sqlite(connection, month)
            make_views(connection)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._engine.dispose()

    def _look_at_file(self) -> None:
        """Make SQLite's file, unless it is there. One that was replaced is opened anew."""
        if self._path is None:
            return
        if not self._path.exists():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)  # the events name people
        found = self._path.stat()
        if self._file not in (None, (found.st_dev, found.st_ino)):
            self._engine.dispose()
            self._taken_up = False
        self._file = found.st_dev, found.st_ino

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ArchiveUnfit as error:
            raise ArchiveUnfit(f"{self.shown} {error}") from None
        except (SQLAlchemyError, OSError, OverflowError) as error:
            # SQLAlchemy's own text shows the statement's values.
            cause = getattr(error, "orig", None) or error
            what = cause.strerror if isinstance(cause, OSError) else str(cause).strip().partition("\n")[0]
            raise _kind(error, cause)(f"{self.shown}: {what or type(cause).__name__}") from None


def _kind(error: Exception, cause: BaseException) -> type[ArchiveUnavailable]:
    state = getattr(cause, "sqlstate", None) or ""
    if state in _DENIED:
        return ArchiveUnfit
    if state == _LOCKED:
        return ArchiveBusy
    refused = isinstance(error, DataError | IntegrityError | OverflowError) or state == _TOO_LONG
    return ArchiveRefused if refused else ArchiveUnavailable


def months_of(connection: Connection) -> list[Month]:
    """Return the months that have tables, the newest first."""
    statement = "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'events_[0-9]*'"
    if connection.dialect.name == "postgresql":
        statement = (
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'events'::regclass"
        )
    names = connection.scalars(sql.text(statement))
    return sorted((named(name.removeprefix("events_")) for name in names), reverse=True)


def by_month(connection: Connection, ids: Iterable[str]) -> dict[Month, list[str]]:
    """Return the ids by month, of the months that have tables."""
    found: dict[Month, list[str]] = defaultdict(list)
    for id in ids:
        found[month_of(id)].append(id)
    there = set(months_of(connection))
    return {month: part for month, part in found.items() if month in there}


def make_views(connection: Connection) -> None:
    """Make SQLite's views of all months together, as PostgreSQL has tables of them."""
    months = months_of(connection)
    for name in INDEXES:
        connection.execute(sql.text(f"DROP VIEW IF EXISTS {name}"))
        parts = [sql.select(sql.text("*")).select_from(sql.table(f"{name}_{month.name}")) for month in months]
        if parts:
            connection.execute(sql.text(f"CREATE VIEW {name} AS {sql.union_all(*parts)}"))


def _engine(url: str, *, keep_open: bool) -> Engine:
    # Who writes keeps one: closing the last one writes the whole of SQLite's log into the file.
    pool = QueuePool if keep_open else NullPool
    if url.startswith("sqlite"):
        engine = sql.create_engine(url, poolclass=pool, connect_args={"timeout": WAIT_S})
        sql.event.listen(engine, "connect", _set_up_sqlite)
        sql.event.listen(engine, "begin", _begin_in_sqlite)
        return engine
    return sql.create_engine(
        url,
        poolclass=pool,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": WAIT_S,
            "options": f"-c statement_timeout={STATEMENT_S}s -c lock_timeout={WAIT_S}s -c timezone=UTC",
            "tcp_user_timeout": WAIT_S * 1000,
        },
    )


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # else the driver begins transactions when it sees fit: see below
    # A reader never waits for a writer, what was committed is on the disk, and what was removed is
    # overwritten.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_in_sqlite(connection: Connection) -> None:
    # A transaction that has read could not write if another one has written since.
    options = connection.get_execution_options()
    if not options.get("alone"):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")
