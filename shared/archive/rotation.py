"""Encrypts again, with the newest key, what the archive keeps under another one or none. All calls block.

Nothing else has to stop: a row that is being written anew is left to a later run, which finds it under its
older key.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive import texts
from shared.archive.database import Database, months_of
from shared.archive.months import Month
from shared.archive.scrubbing import scrub
from shared.archive.sealing import Sealer
from shared.archive.settings import note_to_scrub, seal_party_key
from shared.archive.tables import tables
from shared.errors import ArchiveSealed

AT_ONCE, AT_ONCE_BYTES = 500, 8 * 1024 * 1024
NAMED = 3


class Rotation:
    """Brings an archive under its newest key. All methods raise ArchiveUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.unreadable: dict[str, str] = {}
        """What could not be decrypted and stays as it is, and why: the first NAMED of it."""

    def left(self) -> int:
        """Return how many payloads are not under the newest key."""
        newest = self._database.sealer.newest
        with self._database.reading() as connection:
            return sum(
                connection.scalar(sql.select(sql.func.count()).where(table.c.payload_key != newest)) or 0
                for month in months_of(connection)
                for table in _with_payloads(month)
            )

    def run(self, done: Callable[[int], None]) -> int:
        """Encrypt what is not under the newest key, and remove the words that payloads were found by.

        Each step is one short transaction, so a run that is killed is taken up by the next one. Calls `done`
        with how many are done so far; returns how many that were in the end.
        """
        count = 0
        with self._database.writing() as connection:
            seal_party_key(connection, self._database.sealer)
            months = months_of(connection)
        for month in months:
            with self._database.writing() as connection:
                note_to_scrub(connection, month)
                texts.clear(connection, month)
            for table in _with_payloads(month):
                after = ""
                while last := self._step(table, after):
                    after, sealed = last
                    count += sealed
                    done(count)
        scrub(self._database)
        return count

    def _step(self, table: sql.Table, after: str) -> tuple[str, int] | None:
        """Encrypt some payloads after an id. Returns the last id, and how many; None if there are no more."""
        with self._database.writing() as connection:
            rows = _older(connection, table, self._database.sealer.newest, after)
            if not rows:
                return None
            sealed = []
            for id, key_id, payload in rows:
                try:
                    sealed.append(_sealed(self._database.sealer, id, key_id, payload))
                except ArchiveSealed as error:
                    if len(self.unreadable) < NAMED:
                        self.unreadable[id] = str(error)
            if sealed:
                statement = sql.update(table).where(table.c.id == sql.bindparam("of"))
                connection.execute(statement, sealed)
            return rows[-1].id, len(sealed)


def _sealed(sealer: Sealer, id: str, key_id: str, payload: bytes) -> dict[str, Any]:
    newest, value = sealer.seal(id, sealer.open(id, key_id, payload))
    return {"of": id, "payload_key": newest, "payload": value}


def _older(connection: Connection, table: sql.Table, newest: str, after: str) -> list[Any]:
    """Return the next payloads that are not under the newest key, about AT_ONCE_BYTES of them at most."""
    older = (table.c.payload_key != newest, table.c.id > after)
    size = sql.func.length(table.c.payload)
    ids: list[str] = []
    bytes = 0
    for row in connection.execute(
        sql.select(table.c.id, size.label("size")).where(*older).order_by(table.c.id).limit(AT_ONCE)
    ):
        bytes += row.size
        if ids and bytes > AT_ONCE_BYTES:
            break
        ids.append(row.id)
    if not ids:
        return []
    columns = (table.c.id, table.c.payload_key, table.c.payload)
    # PostgreSQL: what the moving worker is writing is left out, so that neither waits for the other.
    locked = sql.select(*columns).where(table.c.id.in_(ids), *older).with_for_update(skip_locked=True)
    return list(connection.execute(locked.order_by(table.c.id)))


def _with_payloads(month: Month) -> tuple[sql.Table, sql.Table]:
    here = tables(month)
    return here.events, here.copies
