"""An archive of many events, made within its database: through the writer, ten million would take an hour.

One event in a thousand failed and was given up, one in a thousand is in yen, one in ten thousand names a flat; all
others are much alike. Each went to two targets in one attempt each, and names two of half a million people.
"""

from datetime import UTC, datetime

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive.database import Database
from shared.archive.months import Month, month_at
from shared.archive.rows import party_hash
from shared.archive.settings import party_key
from shared.event.ids import source_tag

MONTHS = 12
LAST = month_at(int(datetime(2026, 10, 1, tzinfo=UTC).timestamp()) * 1000)
PAYLOAD_BYTES = 320
PARTY = "buyer-7@example.com"

_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)",
    "postgresql": "WITH numbers AS (SELECT generate_series(:first, :last) AS n)",
}
_FUNCTIONS = {
    "sqlite": {
        "id": "printf('evt_%011x%s0', :begins + (n - :first) * :step, :tag)",
        "spread": "(n * 7919 % 1000003)",
        "payload": "zeroblob(:payload)",
        "hex": "lower(substr(hex(randomblob(16)), 1, 32))",
        "no": "0",
    },
    "postgresql": {
        "id": "'evt_' || lpad(to_hex(:begins + (n - :first) * :step), 11, '0') || :tag || '0'",
        "spread": "(CAST(n AS bigint) * 7919 % 1000003)",
        "payload": "decode(repeat('00', :payload), 'hex')",
        "hex": "md5(CAST(random() AS text))",
        "no": "false",
    },
}
_WORDS = (
    "'payment received buyer ' || {spread} || ' example com order ' || n ||"
    " CASE WHEN n % 10000 = 0 THEN ' rent of the seventh flat' ELSE ' goods delivered and accepted' END"
)
_SELECT_VECTORS = " ".join(["SELECT {id}, to_tsvector('simple',", _WORDS, ") FROM numbers"])
_SELECT_WORDS = " ".join(["SELECT n - :first + 1,", _WORDS, "FROM numbers"])
_STATEMENTS = {
    "events": (
        "SELECT {id}, :begins + (n - :first) * :step,"
        " CASE WHEN n % 5 = 0 THEN 'truust' ELSE 'trustap' END,"
        " CASE WHEN n % 1000 = 0 THEN 'dispute.raised' WHEN n % 3 = 0 THEN 'payout.paid' ELSE 'payment.received' END,"
        " 'trustap', 'ev-' || n, 'tx-' || n / 4, 'pay-' || n / 2, {spread},"
        " CASE WHEN n % 1000 = 0 THEN 'JPY' ELSE 'EUR' END, 'paid', 'paid', NULL, 'ledger,crm', 0, 0, NULL,"
        " 'd', '', {payload} FROM numbers"
    ),
    "deliveries": (
        "SELECT {id}, target, CASE WHEN target = 'crm' AND n % 1000 = 0 THEN 'discarded' ELSE 'done' END,"
        " 0, '' FROM numbers, (SELECT 'ledger' AS target UNION ALL SELECT 'crm') AS targets"
    ),
    "attempts": (
        "SELECT {id}, target, :begins + n, 1, :begins + n, 12.5,"
        " CASE WHEN target = 'crm' AND n % 1000 = 0 THEN NULL ELSE 200 END,"
        " CASE WHEN target = 'crm' AND n % 1000 = 0 THEN 'timeout' ELSE NULL END"
        " FROM numbers, (SELECT 'ledger' AS target UNION ALL SELECT 'crm') AS targets"
    ),
    "parties": (
        "SELECT {id}, role, CASE WHEN n % 500000 = 7 AND role = 'buyer' THEN :party ELSE {hex} END"
        " FROM numbers, (SELECT 'buyer' AS role UNION ALL SELECT 'seller') AS roles"
    ),
}


def fill(database: Database, count: int, month: Month, first: int) -> None:
    """Fill a month with so many events; the first has the number `first`."""
    with database.writing() as connection:
        database.make_month(connection, month)
        dialect = connection.dialect.name
        values = {
            "first": first,
            "last": first + count - 1,
            "begins": month.begins_ms,
            "step": max(1, (month.next.begins_ms - month.begins_ms) // count),
            "tag": source_tag("trustap"),
            "payload": PAYLOAD_BYTES,
            "party": party_hash(party_key(connection, database.sealer), PARTY),
        }

        def run(into: str, select: str) -> None:
            text = select.format(**_FUNCTIONS[dialect])
            used = {name: value for name, value in values.items() if f":{name}" in text + _NUMBERS[dialect]}
            insert = f"INSERT INTO {into} {_NUMBERS[dialect]} {text}"
            connection.execute(sql.text(insert), used)

        for table, select in _STATEMENTS.items():
            run(f"{table}_{month.name}", select)
        if dialect == "postgresql":
            run(f"texts_{month.name}", _SELECT_VECTORS)
        else:
            run(f"texts_{month.name} (number, id)", "SELECT n - :first + 1, {id} FROM numbers")
            run(f"words_{month.name} (rowid, words)", _SELECT_WORDS)


def analyse(connection: Connection) -> None:
    """Have the database look at what it has, as PostgreSQL does by itself after a while."""
    if connection.dialect.name == "postgresql":
        connection.execute(sql.text("ANALYZE"))
