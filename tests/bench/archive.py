"""The archive: how long the first page of each search takes, by which plan, and how fast events move there."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from shared.archive.database import Database
from shared.archive.months import Month
from shared.archive.reader import Reader
from shared.archive.search import Search
from tests.bench.archive_fill import LAST, MONTHS, PARTY, analyse, fill
from tests.bench.report import Goal, Result
from tests.bench.run import Run
from tests.postgresql import PostgreSQL

EVENTS = 10_000_000
PAGE = 50
TIMES = 5
SEARCHES = {
    "nothing": Search(),
    "event id": Search(id="tx-1200000"),
    "payment": Search(payment="pay-2400007"),
    "transaction": Search(transaction="tx-1200007"),
    "provider event": Search(provider_event="ev-4800007"),
    "source": Search(source="truust"),
    "type": Search(type="payment.received"),
    "rare type, glob": Search(type="disp*"),
    "state": Search(state="done"),
    "rare state": Search(state="discarded"),
    "target": Search(target="crm"),
    "target in a rare state": Search(target="crm", state="discarded"),
    "HTTP status": Search(status=200),
    "error": Search(error="timeout"),
    "party": Search(party=PARTY),
    "currency": Search(currency="EUR"),
    "amounts, many": Search(currency="EUR", least=10_000),
    "amounts, few": Search(currency="EUR", least=500_000, most=500_010),
    "words, many": Search(text="example com"),
    "words, few": Search(text="the seventh flat"),
    "words, none": Search(text="no such words"),
    "span": Search(since_ms=Month(LAST.number - 6).begins_ms, until_ms=Month(LAST.number - 5).begins_ms),
}


def main(run: Run) -> Result:
    """Fill an archive in each database, and search it."""
    result = Result("archive", f"{run.count(EVENTS):,} events of {MONTHS} months; the first page of {PAGE}")
    with ExitStack() as stack:
        for name, url in stack.enter_context(databases(run.folder)).items():
            database = Database(url, keep_open=True)
            stack.callback(database.close)
            months = [Month(LAST.number - back) for back in reversed(range(MONTHS))]
            each = run.count(EVENTS) // MONTHS
            for place, month in enumerate(run.each(months, f"{name}: filling")):
                fill(database, each, month, 1 + place * each)
            with database.writing() as connection:
                analyse(connection)
            for words in run.each(SEARCHES, f"{name}: searching"):
                measure(result, Reader(database), name, words)
    return result


@contextmanager
def databases(folder: Path | None) -> Iterator[dict[str, str]]:
    """Start the databases. The SQLite file lies on the disk, and not in memory."""
    with tempfile.TemporaryDirectory(dir=folder) as place, PostgreSQL() as server:
        yield {
            "SQLite": f"sqlite:///{Path(place) / 'archive.db'}",
            "PostgreSQL": server.create_database("archive"),
        }


def measure(result: Result, reader: Reader, database: str, words: str) -> None:
    """Measure one search, several times; the first one finds nothing of it in memory, maybe."""
    times = []
    with plans() as found:
        page = reader.page(SEARCHES[words], PAGE)
    for _ in range(TIMES):
        began = time.perf_counter()
        assert len(reader.page(SEARCHES[words], PAGE)) == len(page)
        times.append((time.perf_counter() - began) * 1000)
    result.add(
        f"{database}: {words} ({len(page)})", "ms", [statistics.median(times)], Goal(100, 20, upwards=False)
    )
    result.notes += [f"{database}: {words}: {plan}" for plan in dict.fromkeys(found)]


@contextmanager
def plans() -> Iterator[list[str]]:
    """Collect the plans of all queries that are made meanwhile."""
    found: list[str] = []

    def explain(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if not statement.startswith(("SELECT", "WITH")) or "_20" not in statement or many:
            return
        kind = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        other = cursor.connection.cursor()
        other.execute(f"{kind} {statement}", parameters)
        found.append("; ".join(str(row[-1]).strip() for row in other.fetchall()))
        other.close()

    sql.event.listen(sql.engine.Engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        sql.event.remove(sql.engine.Engine, "before_cursor_execute", explain)
