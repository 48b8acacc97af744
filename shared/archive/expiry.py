"""Removes events that are older than their source's `keep` says, in whole months. All calls block.

A month goes as a whole if all its events are too old and none is held: PostgreSQL drops its tables. SQLite
would write over all that a large table had, and let nobody else write meanwhile: there the tables are emptied
first, some hundred events at a time, and then dropped. If something of a month stays, the rest is removed in
the same way. An event is there with all its rows, or it is gone. All steps are done anew by the next pass, as
far as they are not done.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec
import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive import holds, texts
from shared.archive.database import Database, months_of
from shared.archive.months import Month
from shared.archive.payloads import forget_words, opened
from shared.archive.sealing import Sealer
from shared.archive.tables import audit, tables

AT_ONCE = 500
"""How many events, or rows of another table, one transaction removes."""

READ_AT_ONCE = 50
"""How many payloads are in memory at a time."""


class Keep(msgspec.Struct, frozen=True):
    """How many months events are kept; `sources` has the number of those sources that have their own."""

    months: int
    sources: Mapping[str, int] = {}

    def expired(self, month: Month, source: str, now: Month) -> bool:
        """Tell whether all events of a month and a source are too old."""
        return month.number + self.sources.get(source, self.months) < now.number

    @property
    def shortest(self) -> int:
        """The least number of months that anything is kept."""
        return min([self.months, *self.sources.values()])

    @property
    def longest(self) -> int:
        """The number of months after which nothing is kept."""
        return max([self.months, *self.sources.values()])


class Removed(msgspec.Struct, frozen=True):
    """What one step removed: of a month, or entries of the audit.

    `dropped`: the month's tables are gone. PostgreSQL estimates how many events those had.
    """

    month: Month | None = None
    events: int = 0
    copies: int = 0
    entries: int = 0
    dropped: bool = False


class Expiry:
    """Removes what is too old from one archive. All methods raise ArchiveUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def steps(self, keep: Keep, now: Month) -> Iterator[Removed]:
        """Remove what is too old in the month `now`, the oldest first: each value is a short step.

        Raises: ArchiveBusy if a month's tables are read all the time.
        """
        with self._database.reading() as connection:
            months = months_of(connection)
        for month in reversed(months):
            if month.number + keep.shortest < now.number:
                yield from self._month(month, keep, now)
        yield from self._audit(Month(now.number - keep.longest))

    def _month(self, month: Month, keep: Keep, now: Month) -> Iterator[Removed]:
        with self._database.reading() as connection:
            expired = [name for name in _sources(connection, month) if keep.expired(month, name, now)]
        # Copies are few, and what is held of them is not found by an index.
        for source in expired:
            yield from self._rows(month, source, of_copies=True)
        with self._database.reading() as connection:
            goes = _goes(connection, month, keep, now)
        if not goes or not self._database.is_postgresql:
            for source in expired:
                yield from self._rows(month, source)
        if not self._database.is_postgresql:
            yield from self._merge_words(month)
        if goes:
            yield from self._drop(month, keep, now)

    def _rows(self, month: Month, source: str, *, of_copies: bool = False) -> Iterator[Removed]:
        """Remove a source's events of a month, or its copies, but for what is held."""
        after = ""
        while True:
            with self._database.writing() as connection:
                if month not in months_of(connection):
                    return
                holds.lock(connection)
                here = tables(month)
                rows = (here.copies if of_copies else here.events).c
                wanted = sql.select(rows.id).where(rows.source == source, rows.id > after)
                ids = connection.scalars(wanted.order_by(rows.id).limit(AT_ONCE)).all()
                kept = holds.held(connection, ids)
                gone = [id for id in ids if id not in kept]
                if of_copies:
                    connection.execute(sql.delete(here.copies).where(here.copies.c.id.in_(gone)))
                else:
                    _remove(connection, month, gone, self._database.sealer)
            if not ids:
                return
            after = ids[-1]
            count = len(gone)
            yield Removed(month, copies=count) if of_copies else Removed(month, events=count)

    def _drop(self, month: Month, keep: Keep, now: Month) -> Iterator[Removed]:
        with self._database.dropping() as connection:
            holds.lock(connection)
            if month not in months_of(connection) or not _goes(connection, month, keep, now):
                return
            events = _estimate(connection, month) if self._database.is_postgresql else 0
            self._database.drop_month(connection, month)
        yield Removed(month, events=events, dropped=True)

    def _merge_words(self, month: Month) -> Iterator[Removed]:
        """Remove from SQLite's file what the index of words still has of removed ones."""
        begin = more = True
        while more:
            with self._database.writing() as connection:
                there = month in months_of(connection)
                more = there and texts.merge_in_sqlite(connection, month, begin=begin)
            begin = False
            if more:
                yield Removed(month)

    def _audit(self, before: Month) -> Iterator[Removed]:
        old = sql.select(audit.c.id).where(audit.c.at_ms < before.begins_ms).limit(AT_ONCE)
        while True:
            with self._database.writing() as connection:
                count = connection.execute(sql.delete(audit).where(audit.c.id.in_(old))).rowcount
            if not count:
                return
            yield Removed(entries=count)


def _sources(connection: Connection, month: Month) -> set[str]:
    """Return the sources that a month has events or copies of."""
    found: set[str] = set()
    here = tables(month)
    for source in (here.events.c.source, here.copies.c.source):
        last = ""
        # An index has the next one at once; a DISTINCT would read all of it.
        while (name := connection.scalar(sql.select(sql.func.min(source)).where(source > last))) is not None:
            last = name
            found.add(name)
    return found


def _goes(connection: Connection, month: Month, keep: Keep, now: Month) -> bool:
    """Tell whether nothing of a month has to stay. A copy has to, until it was looked at by itself."""
    return (
        all(keep.expired(month, source, now) for source in _sources(connection, month))
        and connection.execute(sql.select(tables(month).copies.c.id).limit(1)).first() is None
        and not holds.any_in(connection, month)
    )


def _estimate(connection: Connection, month: Month) -> int:
    """Return about how many events a month has. Counting many would take PostgreSQL long."""
    events = tables(month).events
    known = sql.text("SELECT reltuples FROM pg_class WHERE oid = CAST(:name AS regclass)")
    count = connection.scalar(known, {"name": events.name})
    if count is None or count < 0:  # too few, or too new, for PostgreSQL to have looked at them
        count = connection.scalar(sql.select(sql.func.count()).select_from(events))
    return int(count or 0)


def _remove(connection: Connection, month: Month, ids: Sequence[str], sealer: Sealer) -> None:
    here = tables(month)
    for start in range(0, len(ids), READ_AT_ONCE):
        part = ids[start : start + READ_AT_ONCE]
        # The words of what cannot be read any more stay, and find nothing once it is gone.
        with suppress(ValueError):
            forget_words(connection, month, opened(connection, month, part, sealer, {}))
    for table in (here.deliveries, here.attempts, here.parties, here.events):
        connection.execute(sql.delete(table).where(table.c.id.in_(ids)))
