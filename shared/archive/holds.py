"""Holds: what an operator has the archive keep, whatever its age, until the hold is lifted.

Whoever removes or replaces events asks `held` within the transaction that does it, after `lock`: so a hold
that is confirmed keeps all that it names.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive.database import Database, by_month, months_of
from shared.archive.months import Month, first_id
from shared.archive.tables import holds, tables
from shared.event.ids import received_ms
from shared.event.record import Shown

AT_ONCE, IDS_AT_ONCE = 100, 500
"""How many holds and ids one statement asks about."""

T = TypeVar("T")

_shown = msgspec.json.Decoder(Shown).decode


class Hold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Keeps the events for which all that it gives holds, and their copies.

    `since_ms` and `until_ms` are when an event came in, both included. A hold that gives neither an event nor
    a transaction also keeps the copies that came in its span.
    """

    id: str
    at_ms: int
    user: str
    reason: str
    event: str | None = None
    provider: str | None = None
    transaction_id: str | None = None
    source: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class Holds:
    """Places, lists and lifts holds. All methods raise ArchiveUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def all(self) -> list[Hold]:
        """Return all holds, the oldest first."""
        with self._database.reading() as connection:
            return _all(connection)

    def count(self, hold: Hold) -> int:
        """Return how many archived events a hold keeps; it need not be placed."""
        with self._database.reading() as connection:
            return sum(
                connection.scalar(sql.select(sql.func.count()).where(*_of_events(hold, month))) or 0
                for month in months_of(connection)
            )

    def place(self, hold: Hold) -> None:
        """Place a hold. What it names is kept from now on."""
        with self._database.writing() as connection:
            connection.execute(sql.insert(holds).values(**msgspec.structs.asdict(hold)))

    def lift(self, id: str) -> bool:
        """Lift a hold. Returns whether there was one with this id."""
        with self._database.writing() as connection:
            return connection.execute(sql.delete(holds).where(holds.c.id == id)).rowcount > 0


def lock(connection: Connection) -> None:
    """Have nobody place a hold until the end of this transaction, which must be one that writes."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        connection.execute(sql.text("LOCK TABLE holds IN SHARE MODE"))


def held(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return those of these archived events and copies that a hold keeps."""
    placed = _all(connection)
    found: set[str] = set()
    for part in _groups(ids, IDS_AT_ONCE) if placed else ():
        found |= _events(connection, placed, part) | _copies(connection, placed, part)
    return found


def is_held(placed: Sequence[Hold], id: str, source: str, data: bytes | None = None) -> bool:
    """Tell whether a hold keeps an event that may be elsewhere than in the archive.

    `data` is that of its record; without it, a request that nobody has read: one that a span keeps.
    """
    known = Shown("") if data is None else _shown(data)
    received = received_ms(id)
    return any(
        hold.event in (None, id)
        and hold.provider in (None, known.provider)
        and hold.transaction_id in (None, known.transaction_id)
        and hold.source in (None, source)
        and (hold.since_ms or 0) <= received
        and (hold.until_ms is None or received <= hold.until_ms)
        for hold in placed
    )


def any_in(connection: Connection, month: Month) -> bool:
    """Tell whether a hold keeps an event of a month."""
    events = tables(month).events.c
    return any(
        connection.execute(sql.select(events.id).where(*_of_events(hold, month)).limit(1)).first()
        for hold in _all(connection)
    )


def _all(connection: Connection) -> list[Hold]:
    rows = connection.execute(sql.select(holds).order_by(holds.c.at_ms, holds.c.id))
    return [Hold(**row._mapping) for row in rows]


def _events(connection: Connection, placed: Sequence[Hold], ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for month, part in by_month(connection, ids).items():
        id = tables(month).events.c.id
        for group in _groups(placed, AT_ONCE):
            kept = sql.or_(*(sql.and_(*_of_events(hold, month)) for hold in group))
            found |= {*connection.scalars(sql.select(id).where(id.in_(part), kept))}
    return found


def _copies(connection: Connection, placed: Sequence[Hold], ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    firsts: dict[str, str] = {}
    for month, part in by_month(connection, ids).items():
        copies = tables(month).copies.c
        wanted = copies.id.in_(part)
        rows = connection.execute(sql.select(copies.id, copies.copy_of).where(wanted))
        firsts |= {row.id: row.copy_of for row in rows}
        for group in _groups([hold for hold in placed if _is_span(hold)], AT_ONCE):
            kept = sql.or_(*(sql.and_(*_of_span(hold, copies)) for hold in group))
            found |= {*connection.scalars(sql.select(copies.id).where(wanted, kept))}
    kept_firsts = _events(connection, placed, [*firsts.values()])
    return found | {copy for copy, first in firsts.items() if first in kept_firsts}


def _of_events(hold: Hold, month: Month) -> list[sql.ColumnElement[bool]]:
    """Return what holds for a month's events that are kept."""
    events = tables(month).events.c
    pairs = (
        (events.id, hold.event),
        (events.transaction_id, hold.transaction_id),
        (events.provider, hold.provider),
    )
    return [column == value for column, value in pairs if value is not None] + _of_span(hold, events)


def _of_span(hold: Hold, rows: Any) -> list[sql.ColumnElement[bool]]:
    # An id begins with when it came, and there is an index of source and id.
    found = [rows.id >= first_id(hold.since_ms or 0)]
    if hold.until_ms is not None:
        found.append(rows.id < first_id(hold.until_ms + 1))
    return found + ([rows.source == hold.source] if hold.source is not None else [])


def _is_span(hold: Hold) -> bool:
    return hold.event is None and hold.transaction_id is None


def _groups(all: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(all), size):
        yield all[start : start + size]
