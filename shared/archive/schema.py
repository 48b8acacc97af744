"""The tables on disk, and the version of their layout.

dead_letters     one row a dead letter, complete: what a listing, a payload or a replay needs of it stands
                 here, whatever has become of the event's record in Redis. `moving` is '' but while the
                 letter is on its way from Redis to here or back: then it names that move, and Redis says
                 where the letter is (shared.operations.moves)
schema_version   one row: the version of this layout
"""

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.errors import ArchiveUnavailable

VERSION = 1

metadata = sql.MetaData()

dead_letters = sql.Table(
    "dead_letters",
    metadata,
    sql.Column("id", sql.Text, primary_key=True),
    sql.Column("target", sql.Text, primary_key=True),
    sql.Column("source", sql.Text, nullable=False),
    sql.Column("type", sql.Text, nullable=False),
    sql.Column("received_ms", sql.BigInteger, nullable=False),
    sql.Column("died_ms", sql.BigInteger, nullable=False),
    sql.Column("failed", sql.Integer, nullable=False),
    sql.Column("why", sql.Text, nullable=False),
    sql.Column("attempts", sql.LargeBinary, nullable=False),
    sql.Column("attributes", sql.LargeBinary, nullable=False),
    sql.Column("data", sql.LargeBinary, nullable=False),
    sql.Column("body", sql.LargeBinary, nullable=False),
    sql.Column("content_type", sql.Text, nullable=False),
    sql.Column("digest", sql.Text, nullable=False),
    sql.Column("transaction_key", sql.Text, nullable=False),
    sql.Column("ordered", sql.Text, nullable=False),
    sql.Column("targets", sql.Text, nullable=False),
    sql.Column("ends", sql.LargeBinary, nullable=False),
    sql.Column("copies", sql.Integer, nullable=False),
    sql.Column("differing", sql.Integer, nullable=False),
    sql.Column("copy_of", sql.Text, nullable=False),
    sql.Column("moving", sql.Text, nullable=False),
    sql.Index("dead_letters_by_death", "target", "died_ms", "id"),
    sql.Index("dead_letters_by_receipt", "received_ms", "id"),
    sql.Index("dead_letters_by_transaction", "transaction_key"),
    sql.Index("dead_letters_moving", "moving", sqlite_where=sql.text("moving <> ''")),
)

schema_version = sql.Table("schema_version", metadata, sql.Column("version", sql.Integer, nullable=False))


def prepare(connection: Connection) -> None:
    """Make the tables, unless they are there. Raises: ArchiveUnavailable if a newer Headrace made them."""
    metadata.create_all(connection)
    for index in dead_letters.indexes:  # a file that was made before has not all of them
        index.create(connection, checkfirst=True)
    version = connection.execute(sql.select(schema_version.c.version)).scalar()
    if version is None:
        connection.execute(sql.insert(schema_version).values(version=VERSION))
    elif version > VERSION:
        raise ArchiveUnavailable(
            f"was written by a newer Headrace (layout {version}, this one knows {VERSION}): use that one"
        )
