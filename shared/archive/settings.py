"""What belongs to an archive as a whole."""

from secrets import token_bytes

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive.sealing import Sealer
from shared.archive.tables import settings

PARTY_KEY = "party-key"


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
