"""The archive's table of what operators did. All calls block."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from shared.archive.audit import AuditEntry, AuditSearch, position
from shared.archive.database import Database
from shared.archive.tables import audit

_c = audit.c
# Of one millisecond, a longer id has a larger number.
_order = (_c.at_ms, sql.func.length(_c.id), _c.id)


class AuditTable:
    """Writes and reads entries. All methods raise ArchiveUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, entries: Sequence[AuditEntry]) -> None:
        """Write entries under their ids; what is there already stays. All is on the disk then."""
        with self._database.writing() as connection:
            insert: Callable[[sql.Table], Any] = (
                postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            )
            statement = insert(audit).on_conflict_do_nothing(index_elements=["id"])
            connection.execute(statement, [_row(entry) for entry in entries])

    def page(self, wanted: AuditSearch, limit: int, before: str | None = None) -> list[AuditEntry]:
        """Return up to `limit` entries, newest first; with `before`, only those that are older than it."""
        statement = sql.select(_c.id, _c.entry).where(_c.at_ms.between(wanted.since_ms, wanted.until_ms))
        for column, value in ((_c.action, wanted.action), (_c.user, wanted.user)):
            if value is not None:
                statement = statement.where(column == _storable(value))
        if before is not None:
            here = (position(before)[0], len(before), before)
            # The first condition is the one that an index answers.
            statement = statement.where(_c.at_ms <= here[0], sql.tuple_(*_order) < here)
        statement = statement.order_by(*(column.desc() for column in _order)).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(statement).all()
        return [AuditEntry(row.id, msgspec.json.decode(row.entry)) for row in rows]

    def actions(self) -> list[str]:
        """Return the actions that there are entries of."""
        with self._database.reading() as connection:
            return list(connection.scalars(sql.select(_c.action).distinct()))


def _row(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at_ms": entry.at_ms,
        "action": _storable(entry.action),
        "user": _storable(entry.user),
        "entry": msgspec.json.encode(entry.fields).decode(),
    }


def _storable(text: str) -> str:
    # PostgreSQL takes no NUL. `entry` has the text as it is, escaped.
    return text.replace("\0", "\ufffd")
