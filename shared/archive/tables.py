"""The tables of the archive. Those of a month are named after it: `events_2026_11`.

In PostgreSQL they are partitions of `events`, `deliveries` and so on, by ranges of the event's id; in SQLite
these names are views of all months. The README of deploy/ has the columns as an operator reads them.

events      one row an event: what it is searched by, and `payload`: everything that Redis held of it
            (shared.archive.payload)
deliveries  one row for each target of an event: how it ended (`done`, `discarded`, `expired`, `ended`, or
            `dead`: its dead letter is on the disk), or `unmatched` without a target
attempts    one row an attempt: its number, start (ms), duration, HTTP status, and the word of its error
parties     one row for each party of an event: the role, and a keyed hash of the party's name copies      one
row a suppressed copy: the event that it repeats, whether its body differs from that one's (NULL
            if nobody can tell), and `late` if that event had left Redis before it came
texts       the words of each event's payload (shared.archive.texts)
audit       what operators did, of all months
holds       what is kept whatever its age (shared.archive.holds)
settings    what belongs to this archive as a whole, by name
"""

from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sql

from shared.archive.months import Month

# Text is compared byte by byte, as Redis and Python do.
Text = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")

INDEXES: dict[str, list[tuple[str, ...]]] = {
    "events": [
        ("source", "id"),
        ("type", "id"),
        ("provider_event", "id"),
        ("transaction_id", "id"),
        ("payment_id", "id"),
        ("currency", "amount", "id"),
    ],
    "deliveries": [("state", "id"), ("target", "id"), ("target", "state", "id")],
    "attempts": [("status", "id"), ("error", "id")],
    "parties": [("party", "id")],
    "copies": [("copy_of", "id"), ("source", "id")],
}
"""By table: each index is led by what is searched by, and is in the order of receipt for one value of that.
"""


class Tables(msgspec.Struct, frozen=True):
    """The tables of one month; in PostgreSQL also those that they are partitions of."""

    metadata: sql.MetaData
    events: sql.Table
    deliveries: sql.Table
    attempts: sql.Table
    parties: sql.Table
    copies: sql.Table


@cache
def tables(month: Month | None = None) -> Tables:
    """Return the tables of a month; without one, those of all months together."""
    metadata = sql.MetaData()
    end = f"_{month.name}" if month else ""
    options: dict[str, Any] = {} if month else {"postgresql_partition_by": "RANGE (id)"}

    def table(name: str, *columns: sql.schema.SchemaItem) -> sql.Table:
        indexes = (sql.Index(f"{name}{end}_by_{'_'.join(key[:-1])}", *key) for key in INDEXES[name])
        return sql.Table(name + end, metadata, *columns, *indexes, **options)

    return Tables(
        metadata,
        events=table(
            "events",
            sql.Column("id", Text, primary_key=True),
            sql.Column("received_ms", sql.BigInteger, nullable=False),
            sql.Column("source", Text, nullable=False),
            sql.Column("type", Text, nullable=False),
            sql.Column("provider", Text, nullable=False),
            sql.Column("provider_event", Text),
            sql.Column("transaction_id", Text),
            sql.Column("payment_id", Text),
            sql.Column("amount", sql.BigInteger),
            sql.Column("currency", Text),
            sql.Column("status", Text),
            sql.Column("provider_status", Text),
            sql.Column("occurred_at", Text),
            sql.Column("targets", Text, nullable=False),
            sql.Column("copies", sql.Integer, nullable=False),
            sql.Column("differing", sql.Integer, nullable=False),
            sql.Column("copy_of", Text),
            sql.Column("digest", Text, nullable=False),
            sql.Column("payload_key", Text, nullable=False),
            sql.Column("payload", sql.LargeBinary, nullable=False),
        ),
        deliveries=table(
            "deliveries",
            sql.Column("id", Text, primary_key=True),
            sql.Column("target", Text, primary_key=True),
            sql.Column("state", Text, nullable=False),
            sql.Column("failed", sql.Integer, nullable=False),
            sql.Column("reason", Text, nullable=False),
        ),
        attempts=table(
            "attempts",
            sql.Column("id", Text, primary_key=True),
            sql.Column("target", Text, primary_key=True),
            sql.Column("lease", sql.BigInteger, primary_key=True),
            sql.Column("n", sql.Integer, nullable=False),
            sql.Column("at_ms", sql.BigInteger, nullable=False),
            sql.Column("duration_ms", sql.Float, nullable=False),
            sql.Column("status", sql.Integer),
            sql.Column("error", Text),
        ),
        parties=table(
            "parties",
            sql.Column("id", Text, primary_key=True),
            sql.Column("role", Text, primary_key=True),
            sql.Column("party", Text, nullable=False),
        ),
        copies=table(
            "copies",
            sql.Column("id", Text, primary_key=True),
            sql.Column("source", Text, nullable=False),
            sql.Column("copy_of", Text, nullable=False),
            sql.Column("differs", sql.Boolean),
            sql.Column("late", sql.Boolean, nullable=False),
            sql.Column("digest", Text, nullable=False),
            sql.Column("payload_key", Text, nullable=False),
            sql.Column("payload", sql.LargeBinary, nullable=False),
        ),
    )


common = sql.MetaData()

audit = sql.Table(
    "audit",
    common,
    sql.Column("id", Text, primary_key=True),
    sql.Column("at_ms", sql.BigInteger, nullable=False),
    sql.Column("action", Text, nullable=False),
    sql.Column("user", Text, nullable=False),
    sql.Column("entry", Text, nullable=False),
    sql.Index("audit_by_time", "at_ms"),
)

holds = sql.Table(
    "holds",
    common,
    sql.Column("id", Text, primary_key=True),
    sql.Column("at_ms", sql.BigInteger, nullable=False),
    sql.Column("user", Text, nullable=False),
    sql.Column("reason", Text, nullable=False),
    sql.Column("event", Text),
    sql.Column("provider", Text),
    sql.Column("transaction_id", Text),
    sql.Column("source", Text),
    sql.Column("since_ms", sql.BigInteger),
    sql.Column("until_ms", sql.BigInteger),
)

settings = sql.Table(
    "settings",
    common,
    sql.Column("name", Text, primary_key=True),
    sql.Column("payload_key", Text, nullable=False),
    sql.Column("value", sql.LargeBinary, nullable=False),
)
