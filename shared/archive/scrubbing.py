"""Removes what a database's files still hold of what was removed or replaced. All calls block.

SQLite overwrites what it removes (`secure_delete`); what is left is in its log, and in the index of words
until that is written anew. PostgreSQL keeps the room that VACUUM frees: bytes stay there until something else
is written over them, and in its own log (see deploy/README.md).
"""

import time

import sqlalchemy as sql

from shared.archive import texts
from shared.archive.database import MONTHLY, Database, months_of
from shared.archive.months import Month
from shared.archive.settings import scrubbed, to_scrub

BUSY_S = 20.0


def scrub(database: Database) -> bool:
    """Do that for the months that were noted (shared.archive.settings), as far as the database can.

    Returns whether it could: False if SQLite's log is read all the time. If it is stopped, the next call goes
    on. Raises: ArchiveUnavailable.
    """
    with database.reading() as connection:
        noted, there = to_scrub(connection), months_of(connection)
    for month in noted:
        if month in there:  # retention may have removed it
            _write_anew(database, month)
    emptied = database.is_postgresql or _empty_log(database)
    if emptied:
        with database.writing() as connection:
            for month in noted:
                scrubbed(connection, month)
    return emptied


def _write_anew(database: Database, month: Month) -> None:
    if not database.is_postgresql:
        begin = more = True
        while more:
            with database.writing() as connection:
                there = month in months_of(connection)  # retention may remove it meanwhile
                more = there and texts.merge_in_sqlite(connection, month, begin=begin)
            begin = False
        return
    with database.alone() as connection:
        connection.execute(sql.text("SET statement_timeout = 0"))
        for name in MONTHLY:
            connection.execute(sql.text(f"VACUUM {name}_{month.name}"))
        connection.execute(sql.text("RESET statement_timeout"))


def _empty_log(database: Database) -> bool:
    until = time.monotonic() + BUSY_S
    while True:
        with database.alone() as connection:
            busy = connection.execute(sql.text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar()
        if not busy or time.monotonic() > until:
            return not busy
        time.sleep(0.1)
