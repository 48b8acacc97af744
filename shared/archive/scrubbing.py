"""Removes what a database still holds of what was removed or replaced. All calls block.

SQLite overwrites what it removes (`secure_delete`); what is left is in its log, and in the index of words
until that is written anew. PostgreSQL has room to itself that VACUUM frees: bytes stay there until something
else is written over them, and in its own log (see deploy/README.md).
"""

import time
from collections.abc import Sequence

import sqlalchemy as sql

from shared.archive import texts
from shared.archive.database import MONTHLY, Database
from shared.archive.months import Month

BUSY_S = 20.0


def scrub(database: Database, months: Sequence[Month]) -> bool:
    """Remove what is left of removed and replaced rows of these months, as far as the database can.

    Returns whether it could: False if SQLite's log is read all the time. Raises: ArchiveUnavailable.
    """
    if database.is_postgresql:
        with database.alone() as connection:
            connection.execute(sql.text("SET statement_timeout = 0"))
            for month in months:
                for name in MONTHLY:
                    connection.execute(sql.text(f"VACUUM {name}_{month.name}"))
            connection.execute(sql.text("RESET statement_timeout"))
        return True
    for month in months:
        with database.writing() as connection:
            texts.optimize_in_sqlite(connection, month)
    until = time.monotonic() + BUSY_S
    while True:
        with database.alone() as connection:
            busy = connection.execute(sql.text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar()
        if not busy:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
