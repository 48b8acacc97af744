"""What belongs to an archive as a whole."""

from collections.abc import Callable
from secrets import token_bytes
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from shared.archive.months import Month, named
from shared.archive.sealing import Sealer
from shared.archive.tables import settings

PARTY_KEY, TO_SCRUB, TURN = "party-key", "to-scrub-", "turn"


def party_key(connection: Connection, sealer: Sealer) -> bytes:
    """Return the key of the parties' hashes, within a transaction that may write. The first call makes it.

    Raises: ArchiveSealed.
    """
    key = known_party_key(connection, sealer)
    if key is None:
        key = token_bytes(32)
        key_id, value = sealer.seal(PARTY_KEY, key)
        connection.execute(sql.insert(settings).values(name=PARTY_KEY, payload_key=key_id, value=value))
    return key


def known_party_key(connection: Connection, sealer: Sealer) -> bytes | None:
    """Return the key of the parties' hashes; None if there is none, and so no party.

    Raises: ArchiveSealed.
    """
    row = connection.execute(sql.select(settings).where(settings.c.name == PARTY_KEY)).one_or_none()
    return None if row is None else sealer.open(PARTY_KEY, row.payload_key, bytes(row.value))


def seal_party_key(connection: Connection, sealer: Sealer) -> None:
    """Encrypt the key of the parties' hashes with the newest key. Raises: ArchiveSealed."""
    key = known_party_key(connection, sealer)
    if key is not None:
        key_id, value = sealer.seal(PARTY_KEY, key)
        sealed = sql.update(settings).values(payload_key=key_id, value=value)
        connection.execute(sealed.where(settings.c.name == PARTY_KEY))


def begin_turn(connection: Connection) -> int:
    """Begin a turn of moving events here, and return its number: whoever began one earlier has theirs no
    more.
    """
    number = _turn(connection) + 1
    statement = _insert(connection)(settings).values(name=TURN, payload_key="", value=b"%d" % number)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value})
    )
    return number


def has_turn(connection: Connection, number: int) -> bool:
    """Tell whether a turn is the last that was begun. Until the transaction ends, no other one begins."""
    return _turn(connection) == number


def _turn(connection: Connection) -> int:
    statement = sql.select(settings.c.value).where(settings.c.name == TURN).with_for_update()
    return int(connection.scalar(statement) or 0)


def _insert(connection: Connection) -> Callable[[sql.Table], Any]:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def note_to_scrub(connection: Connection, month: Month) -> None:
    """Record that the files still hold what was removed from a month, until `scrubbed`."""
    statement = _insert(connection)(settings).values(name=TO_SCRUB + month.name, payload_key="", value=b"")
    connection.execute(statement.on_conflict_do_nothing(index_elements=["name"]))


def to_scrub(connection: Connection) -> list[Month]:
    """Return the months whose files still hold what was removed."""
    names = connection.scalars(sql.select(settings.c.name).where(settings.c.name.startswith(TO_SCRUB)))
    return [named(name.removeprefix(TO_SCRUB)) for name in names]


def scrubbed(connection: Connection, month: Month) -> None:
    """Record that the files no longer hold what was removed from a month."""
    connection.execute(sql.delete(settings).where(settings.c.name == TO_SCRUB + month.name))
