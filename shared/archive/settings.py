"""What belongs to an archive as a whole."""

from secrets import token_bytes

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive.tables import settings

PARTY_KEY = "party-key"


def party_key(connection: Connection) -> bytes:
    """Return the key of the parties' hashes, within a transaction that may write. The first call makes it."""
    statement = sql.select(settings.c.value).where(settings.c.name == PARTY_KEY)
    key: bytes | None = connection.scalar(statement)
    if key is None:
        key = token_bytes(32)
        connection.execute(sql.insert(settings).values(name=PARTY_KEY, value=key))
    return bytes(key)


def known_party_key(connection: Connection) -> bytes | None:
    """Return the key of the parties' hashes; None if there is none, and so no party."""
    return connection.scalar(sql.select(settings.c.value).where(settings.c.name == PARTY_KEY))
