"""Reads the archive. All calls block."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive.audit_table import AuditTable
from shared.archive.candidates import Candidates
from shared.archive.database import Database, by_month, months_of
from shared.archive.event import ArchivedCopy, ArchivedEvent, Known, copy_of, event_of
from shared.archive.months import Month, first_id, month_of
from shared.archive.rows import known_of, party_hash
from shared.archive.search import FOR_EVER_MS, Search
from shared.archive.settings import known_party_key
from shared.archive.tables import tables
from shared.archive.writer import Writer
from shared.errors import ArchiveRefused, ArchiveSealed

AT_ONCE, AT_MOST = 200, 2000


class Reader:
    """Reads events and suppressed copies. All methods raise ArchiveUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.audit = AuditTable(database)
        self._sealer = database.sealer

    def check(self) -> None:
        """Open the archive. Raises: ArchiveUnfit if this version cannot use it."""
        with self._database.reading():
            pass

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def replace(self, events: Sequence[ArchivedEvent]) -> None:
        """Write events anew that are archived."""
        Writer(self._database).write(events, [])

    def events(self, ids: Sequence[str]) -> list[ArchivedEvent]:
        """Return those of these events that are archived, whole."""
        found: list[ArchivedEvent] = []
        with self._database.reading() as connection:
            for month, part in by_month(connection, ids).items():
                events = tables(month).events.c
                columns = (events.id, events.payload_key, events.payload)
                rows = connection.execute(sql.select(*columns).where(events.id.in_(part)))
                found += [event_of(row.id, self._opened(*row)) for row in rows]
        return found

    def _opened(self, id: str, key_id: str, payload: bytes) -> bytes:
        return self._sealer.open(id, key_id, payload)

    def known(self, ids: Sequence[str]) -> list[Known]:
        """Return those of these events that are archived, as a listing shows them, in order."""
        found: list[Known] = []
        with self._database.reading() as connection:
            for month, part in by_month(connection, ids).items():
                found += _known(connection, month, part, lambda _: [])
        return sorted(found, key=lambda known: known.id)

    def ids(self, after: str, until: str, count: int) -> list[str]:
        """Return the ids of up to `count` events after one id, up to another one included, oldest first."""
        found: list[str] = []
        with self._database.reading() as connection:
            for month in reversed(months_of(connection)):
                if len(found) < count and month.first_id <= until and month.next.first_id > after:
                    id = tables(month).events.c.id
                    statement = sql.select(id).where(id > after, id <= until).order_by(id)
                    found += connection.scalars(statement.limit(count - len(found)))
        return found

    def page(self, search: Search, limit: int, before: str | None = None) -> list[Known]:
        """Return up to `limit` events, newest first; with `before`, only those whose ids are smaller.

        If they are fewer, there are no more. Raises: ArchiveSealed, for a search by text if payloads are
        encrypted.
        """
        if search.text is not None and self._sealer.newest:
            raise ArchiveSealed(
                "nothing is found by its text in this archive: payloads are encrypted"
                " (archive.encryption_keys), so their words are not kept"
            )
        try:
            return self._page(search, limit, before)
        except ArchiveRefused:  # what the database does not take, it does not have
            return []

    def _page(self, search: Search, limit: int, before: str | None) -> list[Known]:
        found: list[Known] = []
        with self._database.reading() as connection:
            key = known_party_key(connection, self._sealer) if search.party is not None else b""
            if key is None:
                return []
            party = party_hash(key, search.party) if search.party is not None else None
            until = (
                first_id(min(search.until_ms, FOR_EVER_MS) + 1) if search.until_ms < FOR_EVER_MS else "evt_g"
            )
            until = min(until, before or until)
            for month in months_of(connection):
                if len(found) == limit:
                    break
                since, end = max(month.first_id, first_id(search.since_ms)), min(until, month.next.first_id)
                if since < end:
                    candidates = Candidates(connection, month, search, party)
                    found += _page(connection, month, candidates, since, end, limit - len(found))
        return found

    def of_transaction(self, provider: str, transaction_id: str, source: str | None) -> list[ArchivedEvent]:
        """Return the events of a transaction, whole, in the order of receipt; of one source, if that is
        given.
        """
        found: list[ArchivedEvent] = []
        with self._database.reading() as connection:
            for month in reversed(months_of(connection)):
                events = tables(month).events.c
                statement = (
                    sql.select(events.id, events.payload_key, events.payload)
                    .where(events.transaction_id == transaction_id, events.provider == provider)
                    .order_by(events.id)
                )
                if source is not None:
                    statement = statement.where(events.source == source)
                rows = connection.execute(statement)
                found += [event_of(row.id, self._opened(*row)) for row in rows]
        return found

    def copy(self, id: str, *, compared: bool = True) -> ArchivedCopy | None:
        """Return a suppressed copy by its receipt, as it was in Redis.

        `compared`: one that came after its first had been archived was compared with that when it was
        archived itself, and `differs` says what was found.
        """
        with self._database.reading() as connection:
            for month in by_month(connection, [id]):
                copies = tables(month).copies.c
                row = connection.execute(
                    sql.select(copies.payload_key, copies.payload, copies.differs).where(copies.id == id)
                ).one_or_none()
                if row is not None:
                    payload = self._opened(id, row.payload_key, row.payload)
                    copy = copy_of(id, payload)
                    return msgspec.structs.replace(copy, differs=row.differs) if compared else copy
        return None

    def copies(
        self, since_ms: int, until_ms: int, source: str | None, limit: int, before: str | None = None
    ) -> list[ArchivedCopy]:
        """Return up to `limit` suppressed copies that came in a span, newest first, without their bodies."""
        found: list[ArchivedCopy] = []
        since = first_id(since_ms)
        until = min(first_id(until_ms + 1) if until_ms < FOR_EVER_MS else "evt_g", before or "evt_g")
        with self._database.reading() as connection:
            for month in months_of(connection):
                copies = tables(month).copies.c
                statement = (
                    sql.select(copies.id, copies.source, copies.copy_of, copies.differs, copies.digest)
                    .where(copies.id >= since, copies.id < until)
                    .order_by(copies.id.desc())
                    .limit(limit - len(found))
                )
                if source is not None:
                    statement = statement.where(copies.source == source)
                found += [ArchivedCopy(*row, b"", None) for row in connection.execute(statement)]
                if len(found) == limit:
                    break
        return found


def _page(
    connection: Connection, month: Month, candidates: Candidates, since: str, until: str, limit: int
) -> list[Known]:
    found: list[Known] = []
    count = max(limit, AT_ONCE)
    while True:
        ids = candidates.newest(since, until, count)
        page = _known(connection, month, ids, candidates.conditions)
        found += sorted(page, key=lambda known: known.id, reverse=True)
        if len(ids) < count or len(found) >= limit:
            return found[:limit]
        until, count = ids[-1], min(4 * count, AT_MOST)


def _known(
    connection: Connection,
    month: Month,
    ids: Sequence[str],
    conditions: Callable[[Any], list[sql.ColumnElement[bool]]],
) -> list[Known]:
    here = tables(month)
    rows: list[Any] = []
    states: dict[str, dict[str, str]] = defaultdict(dict)
    late: dict[str, list[bool | None]] = defaultdict(list)
    there = months_of(connection)
    columns = [column for column in here.events.c if column.name != "payload"]
    for part in _parts(ids):
        # By their ids first: the planner is not to read an index of all that fulfils one condition.
        events = sql.select(*columns).where(here.events.c.id.in_(part)).limit(len(part)).subquery()
        found = connection.execute(sql.select(events).where(*conditions(events.c))).all()
        rows += found
        for row in connection.execute(
            sql.select(here.deliveries.c.id, here.deliveries.c.target, here.deliveries.c.state).where(
                here.deliveries.c.id.in_([row.id for row in found])
            )
        ):
            states[row.id][row.target] = row.state
        _add_late(connection, there, [row.id for row in found], late)
    return [known_of(row._mapping, states[row.id], late[row.id]) for row in rows]


def _add_late(
    connection: Connection, months: Sequence[Month], ids: Sequence[str], late: dict[str, list[bool | None]]
) -> None:
    """Add the copies that came after these events had left Redis: they came in the same month or later."""
    first = min(map(month_of, ids), default=None)
    for month in months:
        if first is not None and month >= first:
            copies = tables(month).copies.c
            for row in connection.execute(
                sql.select(copies.copy_of, copies.differs).where(copies.copy_of.in_(ids), copies.late)
            ):
                late[row.copy_of].append(row.differs)


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), 500):  # the most values that a statement of SQLite may have
        yield ids[start : start + 500]
