"""Writes finished events to the archive. All calls block."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from shared.archive import texts
from shared.archive.audit_table import AuditTable
from shared.archive.database import Database, months_of
from shared.archive.event import ArchivedCopy, ArchivedEvent, to_payload
from shared.archive.months import Month, month_of
from shared.archive.payloads import forget_words, opened, words_in
from shared.archive.rows import Row, Rows, copy_row, party_hash, rows_of
from shared.archive.sealing import Sealer
from shared.archive.settings import begin_turn, has_turn, note_to_scrub, party_key
from shared.archive.tables import tables
from shared.errors import ArchiveBusy, ArchiveRefused


class Refused(msgspec.Struct, frozen=True):
    """An event, or a copy, that cannot be archived, and why."""

    id: str
    why: str


class Writer:
    """Writes events, and suppressed copies. All methods raise ArchiveUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.audit = AuditTable(database)

    def begin_turn(self) -> int:
        """Begin a turn of moving events here, before they are read from Redis. Returns its number.

        Whoever read events earlier, and stood still since, can then write them no more over newer ones.
        """
        with self._database.writing() as connection:
            return begin_turn(connection)

    def write(
        self, events: Sequence[ArchivedEvent], copies: Sequence[ArchivedCopy], turn: int | None = None
    ) -> list[Refused]:
        """Write events and copies under their ids; what is there already is replaced.

        Returns what cannot be written. All else is on the disk then. Raises: ArchiveBusy if the `turn` in
        which they were read is no longer the last one.
        """
        refused: list[Refused] = []
        prepared: list[_Prepared] = []
        for event in events:
            try:
                prepared.append(_prepare(event))
            except msgspec.MsgspecError:
                refused.append(Refused(event.id, "it is damaged"))
        prepared += [_Prepared(copy.id, copy_row(copy), payload=to_payload(copy)) for copy in copies]
        return refused + self._write(prepared, turn)

    def take_up(self) -> None:
        """Bring the schema up to date. Raises: ArchiveUnfit."""
        with self._database.writing():
            pass

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _write(self, prepared: "Sequence[_Prepared]", turn: int | None) -> list[Refused]:
        """Write all, or if the database refuses a row, each half by itself, down to that row."""
        if not prepared:
            return []
        try:
            with self._database.writing() as connection:
                if turn is not None and not has_turn(connection, turn):
                    raise ArchiveBusy("another worker moves events to it now")
                key = party_key(connection, self._database.sealer)
                by_month: dict[Month, list[_Prepared]] = defaultdict(list)
                for each in prepared:
                    by_month[month_of(each.id)].append(each)
                for month, part in by_month.items():
                    self._database.make_month(connection, month)
                    _write_month(connection, month, part, key, self._database.sealer)
        except ArchiveRefused as error:
            if len(prepared) == 1:
                return [Refused(prepared[0].id, str(error))]
            half = len(prepared) // 2
            return self._write(prepared[:half], turn) + self._write(prepared[half:], turn)
        return []


class _Prepared(msgspec.Struct, frozen=True):
    """What is to be written: the row of an event or of a copy, and what belongs to an event."""

    id: str
    row: Row
    payload: bytes
    rows: Rows | None = None
    words: list[str] = []


def _prepare(event: ArchivedEvent) -> _Prepared:
    rows = rows_of(event)
    return _Prepared(event.id, rows.event, to_payload(event), rows, words_in(event.body))


def _write_month(
    connection: Connection, month: Month, part: Sequence[_Prepared], key: bytes, sealer: Sealer
) -> None:
    here = tables(month)
    events = {each.id: each for each in part if each.rows is not None}
    copies = [each for each in part if each.rows is None]
    known = set(connection.scalars(sql.select(here.events.c.id).where(here.events.c.id.in_([*events]))))
    # Words of an event whose personal data was erased since.
    if wordless := [id for id in known if not events[id].words]:
        note_to_scrub(connection, month)
        forget_words(connection, month, opened(connection, month, wordless, sealer, {}))
    for table in (here.deliveries, here.attempts, here.parties):
        if known:
            connection.execute(sql.delete(table).where(table.c.id.in_(known)))
    _upsert(connection, here.events, [_sealed(each, sealer) for each in events.values()])
    # A copy that was admitted by hand is an event now.
    connection.execute(sql.delete(here.copies).where(here.copies.c.id.in_([*events])))
    digests = _digests(connection, {each.row["copy_of"] for each in copies if each.row["late"]})
    _upsert(connection, here.copies, [_compared(_sealed(each, sealer), digests) for each in copies])
    rows = [each.rows for each in events.values() if each.rows is not None]
    for table, found in (
        (here.deliveries, [row for each in rows for row in each.deliveries]),
        (here.attempts, [row for each in rows for row in each.attempts]),
        (
            here.parties,
            [
                {"id": each.event["id"], "role": role, "party": party_hash(key, name)}
                for each in rows
                for role, name in each.parties.items()
            ],
        ),
    ):
        if found:
            connection.execute(sql.insert(table), found)
    if not sealer.newest:  # the words of what is encrypted are kept nowhere
        texts.add(connection, month, [(id, each.words) for id, each in events.items() if id not in known])


def _digests(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """Return the digests of the bodies of events, as far as they are archived."""
    found: dict[str, str] = {}
    there = set(months_of(connection))
    for month in {month_of(id) for id in ids} & there:
        events = tables(month).events.c
        rows = connection.execute(sql.select(events.id, events.digest).where(events.id.in_(ids)))
        found |= {row.id: row.digest for row in rows}
    return found


def _compared(copy: Row, digests: Mapping[str, str]) -> Row:
    """Return the row of a copy; if its first was archived when it came, with whether it differs from that."""
    digest = digests.get(copy["copy_of"])
    return copy if digest is None else copy | {"differs": copy["digest"] != digest}


def _sealed(each: _Prepared, sealer: Sealer) -> Row:
    key_id, payload = sealer.seal(each.id, each.payload)
    return each.row | {"payload_key": key_id, "payload": payload}


def _upsert(connection: Connection, table: sql.Table, rows: Sequence[Row]) -> None:
    if not rows:
        return
    insert: Callable[[sql.Table], Any] = (
        postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    )
    statement = insert(table)
    others = {column.name: statement.excluded[column.name] for column in table.c if column.name != "id"}
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=others), list(rows))
