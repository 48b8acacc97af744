"""The words of payloads, so that events are found by them: FTS5 in SQLite, `tsvector` in PostgreSQL.

A search finds events that have all words of the query (shared.event.words) in its order, one behind the
other.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable

from shared.archive.months import Month
from shared.archive.tables import Text
from shared.event.words import split

MERGED_AT_ONCE = 500
"""How many pages of an index are written at a time."""


def table(month: Month | None = None) -> sql.Table:
    """Return PostgreSQL's table of words; of a month, or what those are partitions of."""
    name = f"texts_{month.name}" if month else "texts"
    options: dict[str, Any] = {} if month else {"postgresql_partition_by": "RANGE (id)"}
    return sql.Table(
        name,
        sql.MetaData(),
        sql.Column("id", Text, primary_key=True),
        sql.Column("words", TSVECTOR, nullable=False),
        sql.Index(f"{name}_by_words", "words", postgresql_using="gin"),
        **options,
    )


def create_in_sqlite(connection: Connection, month: Month) -> None:
    """Make the tables of a month.

    The index keeps no text of its own: what it is made from stands in the payloads.
    """
    texts, words = _in_sqlite(month)
    connection.execute(CreateTable(texts, if_not_exists=True))
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {words.name} USING fts5"
        " (words, content='', tokenize='unicode61 remove_diacritics 0')"
    )


def _in_sqlite(month: Month) -> tuple[sql.Table, sql.TableClause]:
    """Return the table that numbers a month's events, and the index of their words by that number."""
    texts = sql.Table(
        f"texts_{month.name}",
        sql.MetaData(),
        sql.Column("number", sql.Integer, primary_key=True),
        sql.Column("id", Text, nullable=False, unique=True),
    )
    return texts, sql.table(f"words_{month.name}", sql.column("rowid"), sql.column("words"))


def add(connection: Connection, month: Month, events: Sequence[tuple[str, list[str]]]) -> None:
    """Add events (id, words) that the index does not have."""
    if not events:
        return
    if connection.dialect.name == "postgresql":
        rows = [{"id": id, "words": _tsvector(words)} for id, words in events]
        connection.execute(sql.insert(table(month)), rows)
        return
    texts, words_table = _in_sqlite(month)
    last = connection.scalar(sql.select(sql.func.max(texts.c.number))) or 0
    numbered = list(enumerate(events, last + 1))
    connection.execute(sql.insert(texts), [{"number": number, "id": id} for number, (id, _) in numbered])
    connection.execute(
        sql.insert(words_table),
        [{"rowid": number, "words": " ".join(words)} for number, (_, words) in numbered],
    )


def remove(connection: Connection, month: Month, events: Sequence[tuple[str, list[str]]]) -> None:
    """Remove events (id, words) from the index, as far as it has them. The words must be those that were
    added.
    """
    if connection.dialect.name == "postgresql":
        here = table(month)
        connection.execute(sql.delete(here).where(here.c.id.in_([id for id, _ in events])))
        return
    texts, words_table = _in_sqlite(month)
    numbered = sql.select(texts.c.id, texts.c.number).where(texts.c.id.in_([id for id, _ in events]))
    numbers = {row.id: row.number for row in connection.execute(numbered)}
    name = words_table.name
    index = sql.table(name, sql.column(name), sql.column("rowid"), sql.column("words"))
    for id, words in events:
        if id in numbers:
            # An index without a text of its own must be told what it is to forget.
            told = {name: "delete", "rowid": numbers[id], "words": " ".join(words)}
            connection.execute(sql.insert(index).values(told))
            connection.execute(sql.delete(texts).where(texts.c.id == id))


def clear(connection: Connection, month: Month) -> None:
    """Remove the words of all events of a month."""
    if connection.dialect.name == "postgresql":
        connection.execute(sql.text(f"TRUNCATE {table(month).name}"))
        return
    texts, words = _in_sqlite(month)
    _tell(connection, words, "delete-all")
    connection.execute(sql.delete(texts))


def merge_in_sqlite(connection: Connection, month: Month, *, begin: bool) -> bool:
    """Write a part of a month's index anew, `begin` first: until all is, it holds what was removed from it.

    Returns whether there is more to do.
    """
    before = connection.scalar(sql.text("SELECT total_changes()")) or 0
    _tell(connection, _in_sqlite(month)[1], "merge", rank=-MERGED_AT_ONCE if begin else MERGED_AT_ONCE)
    after = connection.scalar(sql.text("SELECT total_changes()")) or 0
    return after - before >= 2  # so FTS5 says that it has done something


def drop_in_sqlite(connection: Connection, month: Month) -> None:
    """Drop the index of a month."""
    texts, words = _in_sqlite(month)
    for name in (words.name, texts.name):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")


def _tell(connection: Connection, words: sql.TableClause, command: str, **values: int) -> None:
    """Give one of FTS5's commands to an index."""
    index = sql.table(words.name, sql.column(words.name), *map(sql.column, values))
    connection.execute(sql.insert(index).values({words.name: command, **values}))


def matching(
    connection: Connection, month: Month, query: str, since: str, until: str, *, few: bool
) -> sql.Select[Any]:
    """Return a statement for the ids of events between two ids (the second excluded) that have the words of
    a text. `few`: only few events stand between them.
    """
    words = split(query)
    if connection.dialect.name == "postgresql":
        here = table(month)
        wanted = sql.cast(sql.literal(" <-> ".join(f"'{word}'" for word in words), sql.Text), TSQUERY)
        return sql.select(here.c.id).where(
            here.c.words.op("@@")(wanted), here.c.id >= since, here.c.id < until
        )
    texts, index = _in_sqlite(month)
    between = (texts.c.id >= since, texts.c.id < until)
    conditions = list(between)
    if few:
        # Then their numbers bound the part of the index that is read.
        first, last = connection.execute(
            sql.select(sql.func.min(texts.c.number), sql.func.max(texts.c.number)).where(*between)
        ).one()
        conditions.append(index.c.rowid.between(first or 0, last or 0))
    phrase = f'"{" ".join(words)}"'
    return (
        sql.select(texts.c.id)
        .join_from(index, texts, texts.c.number == index.c.rowid)
        .where(index.c.words.match(phrase), *conditions)
    )


def _tsvector(words: Sequence[str]) -> str:
    # A word has neither quotes nor backslashes.
    return " ".join(f"'{word}':{place}" for place, word in enumerate(words, 1))
