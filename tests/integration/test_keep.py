"""What is older than `keep` leaves the archive, in whole months; what is held stays."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sql

from shared.archive import holds
from shared.archive.expiry import AT_ONCE
from shared.archive.holds import Hold, Holds
from shared.archive.months import named
from shared.archive.search import Search
from shared.archive.tables import audit, tables
from shared.config.check import parse_config
from shared.errors import ArchiveBusy
from shared.store.views import EventView
from shared.store.walk import ALWAYS
from tests.integration.archive import Stage, on_stage
from tests.integration.old import Past
from tests.postgresql import psql
from workers.keeping import Keeper

Play = Callable[[Stage, Past], Awaitable[None]]
MONTHLY = ("events", "deliveries", "attempts", "parties", "copies")


def in_the_past(redis_url: str, archive_url: str, play: Play) -> None:
    async def body(stage: Stage) -> None:
        past = await Past.of(stage)
        try:
            await play(stage, past)
        finally:
            past.close()

    on_stage(redis_url, archive_url, body)


async def assert_whole(stage: Stage, past: Past, ids: list[str]) -> None:
    """All ways to read show these events, whole, and no other."""
    assert await stage.listed() == sorted(ids, reverse=True)
    for table in MONTHLY[:4]:
        assert {row.id for row in past.rows(f"SELECT id FROM {table}")} == set(ids), table  # noqa: S608
    for id in ids:
        assert await stage.listed(text=f"words of {id}") == [id]
        kept = await stage.events.find(id, [])
        assert isinstance(kept, EventView)
        assert await stage.events.payload(kept) is not None
        [delivery] = await stage.events.deliveries(id) or []
        assert len(delivery.attempts) == 1
        transaction = await stage.events.transaction("trustshare", kept.transaction_id or "")
        assert id in [event.id for event in transaction]


async def assert_gone(stage: Stage, ids: list[str]) -> None:
    for id in ids:
        assert await stage.events.find(id, []) is None
        assert await stage.events.deliveries(id) is None
        assert await stage.listed(text=f"words of {id}") == []
        assert await stage.events.transaction("trustshare", f"tx-of-{id}") == []


def test_months_that_are_too_old_go_with_their_tables(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage, past: Past) -> None:
        old = [past.event("2019_01"), past.event("2019_01", "other"), past.event("2019_02")]
        copy = past.copy("2019_02", old[0])
        young = [past.event("2019_03"), past.event("2026_11")]
        steps = past.remove("2020_03")
        assert sum(step.events for step in steps) == 3
        assert sum(step.copies for step in steps) == 1
        assert [step.month.name for step in steps if step.month and step.dropped] == ["2019_01", "2019_02"]
        assert past.tables("2019_01") == past.tables("2019_02") == []
        await assert_whole(stage, past, young)
        await assert_gone(stage, old)
        assert await stage.events.find(copy, []) is None
        assert await stage.events.copies(ALWAYS, None, 10) == []
        assert past.remove("2020_03") == [], "once"
        again = past.event("2019_01")  # such as one that was sent again
        await assert_whole(stage, past, [again, *young])
        past.remove("2034_01")
        assert await stage.listed() == []

    in_the_past(redis_url, archive_url, play)


def test_a_source_has_its_own(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage, past: Past) -> None:
        months = ("2018_01", "2019_01", "2020_01")
        normal, brief, long = (
            {month: past.event(month, source) for month in months} for source in ("normal", "brief", "long")
        )
        copies = [
            past.copy("2019_01", brief["2019_01"], "brief"),
            past.copy("2019_01", normal["2019_01"], "normal"),
        ]
        past.remove("2020_08", 24, brief=6, long=120)
        left = [normal["2019_01"], normal["2020_01"], *long.values()]
        await assert_whole(stage, past, left)
        await assert_gone(stage, [*brief.values(), normal["2018_01"]])
        assert [view.id for view in await stage.events.copies(ALWAYS, None, 10)] == copies[1:]
        assert all(past.tables(month) for month in months)
        past.remove("2028_02", 24, brief=6, long=120)
        assert past.tables("2018_01") == []
        await assert_whole(stage, past, [long["2019_01"], long["2020_01"]])

    in_the_past(redis_url, archive_url, play)


def test_the_words_of_what_is_removed_are_in_no_index(redis_url: str, archive_url: str) -> None:
    async def play(_: Stage, past: Past) -> None:
        past.event("2019_01", "brief", description="unmistakable")
        past.event("2019_01")
        past.remove("2019_12", 24, brief=6)
        if archive_url.startswith("sqlite"):
            assert not past.rows("SELECT rowid FROM words_2019_01 WHERE words_2019_01 MATCH 'unmistakable'")
            assert not past.rows("SELECT id FROM words_2019_01_data WHERE instr(block, 'mistakable')")
        else:
            assert not past.rows("SELECT id FROM texts WHERE words @@ 'unmistakable'::tsquery")

    in_the_past(redis_url, archive_url, play)


def test_what_cannot_be_read_is_removed_all_the_same(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage, past: Past) -> None:
        damaged, young = past.event("2019_01", "brief"), past.event("2019_01")
        with past.database.writing() as connection:
            events = tables(named("2019_01")).events
            connection.execute(sql.update(events).where(events.c.id == damaged).values(payload=b"?"))
        past.remove("2019_12", 24, brief=6)
        await assert_whole(stage, past, [young])
        assert await stage.listed(text=f"words of {damaged}") == []

    in_the_past(redis_url, archive_url, play)


def test_much_goes_in_short_steps_between_which_others_read_and_write(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage, past: Past) -> None:
        other = past.event("2019_01", "other")
        ids = past.events(2 * AT_ONCE + 10, "2019_01")
        written = []
        seen, until = 0, named("2019_02").begins_ms
        for step in past.steps("2021_01", 24, trustshare=12):
            assert step.events <= AT_ONCE
            seen += step.events
            left = [
                view.id
                for view in await stage.events.events(
                    Search(source="trustshare", until_ms=until), 2 * len(ids)
                )
            ]
            assert left == sorted(ids, reverse=True)[: len(ids) - seen], "the oldest go first, each at once"
            written.append(past.event("2020_11"))
        assert seen == len(ids)
        await assert_whole(stage, past, [other, *written])

    in_the_past(redis_url, archive_url, play)


def test_a_large_month_goes_in_short_steps_in_sqlite(redis_url: str, tmp_path: Path) -> None:
    async def play(stage: Stage, past: Past) -> None:
        past.events(2 * AT_ONCE + 10, "2019_01")
        young = past.event("2026_11")
        steps = past.remove("2021_01")
        assert [step.events for step in steps if step.events] == [AT_ONCE, AT_ONCE, 10]
        assert past.tables("2019_01") == []
        assert not past.rows("SELECT name FROM sqlite_master WHERE name GLOB '*2019_01*'")
        await assert_whole(stage, past, [young])

    in_the_past(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)


def test_sqlite_has_nothing_of_it_in_its_file_and_uses_its_room_again(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "archive.db"

    def pages() -> int:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            count: int = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.close()
        return count

    async def play(_: Stage, past: Past) -> None:
        past.events(300, "2019_01", "canary-source")
        full = pages()
        past.remove("2021_01")
        assert pages() <= full
        assert b"canary-source" not in path.read_bytes()
        past.events(300, "2026_11", "canary-source")
        assert pages() <= full * 1.1

    in_the_past(redis_url, f"sqlite:///{path}", play)


def test_what_was_begun_is_ended_by_the_next_one(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage, past: Past) -> None:
        past.events(AT_ONCE + 10, "2019_01")
        young = past.event("2026_11")
        begun = 0
        while next(past.steps("2021_01"), None) is not None:
            begun += 1
        assert begun >= 1
        assert not past.tables("2019_01")
        await assert_whole(stage, past, [young])

    in_the_past(redis_url, archive_url, play)


HELD = {
    "event": lambda id: {"event": id},
    "transaction": lambda _: {"provider": "trustshare", "transaction_id": "tx-held"},
    "transaction of a source": lambda _: {
        "provider": "trustshare",
        "transaction_id": "tx-held",
        "source": "trustshare",
    },
    "source": lambda _: {"source": "trustshare"},
    "span": lambda _: {
        "source": "trustshare",
        "since_ms": named("2019_02").begins_ms,
        "until_ms": named("2019_03").begins_ms - 1,
    },
}


@pytest.mark.parametrize("names", HELD.values(), ids=HELD)
def test_what_is_held_stays_with_its_copies_until_the_hold_is_lifted(
    redis_url: str, archive_url: str, names: Callable[[str], dict[str, object]]
) -> None:
    async def play(stage: Stage, past: Past) -> None:
        id = past.event("2019_02", token="tx-held")
        others = [past.event("2019_02", "other"), past.event("2019_01", "other", token="tx-other")]
        copy = past.copy("2019_03", id)
        past.copy("2019_03", others[0], "other")
        placed = Holds(past.database)
        hold = Hold(id="hold_1", at_ms=1, user="ops", reason="case 7", **names(id))  # type: ignore[arg-type]
        assert placed.count(hold) == 1
        placed.place(hold)
        assert placed.all() == [hold]
        with past.database.reading() as connection:
            assert holds.held(connection, [id, copy, *others]) == {id, copy}
        for _ in range(2):
            past.remove("2021_01")
            await assert_whole(stage, past, [id])
            assert [view.id for view in await stage.events.copies(ALWAYS, None, 10)] == [copy]
            assert past.tables("2019_01") == []
        await assert_gone(stage, others)
        assert placed.lift("hold_1")
        assert not placed.lift("hold_1")
        assert placed.all() == []
        past.remove("2021_01")
        assert await stage.listed() == []
        assert past.tables("2019_02") == past.tables("2019_03") == []

    in_the_past(redis_url, archive_url, play)


def test_a_hold_does_not_keep_what_it_does_not_name(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage, past: Past) -> None:
        id = past.event("2019_01", token="tx-held")
        begins = named("2019_02").begins_ms
        for n, names in enumerate(
            (
                {"event": past.event("2026_11")},
                {"provider": "trustshare", "transaction_id": "tx-other"},
                {"provider": "truust", "transaction_id": "tx-held"},
                {"provider": "trustshare", "transaction_id": "tx-held", "source": "other"},
                {"source": "other"},
                {"source": "trustshare", "since_ms": begins},
                {"source": "trustshare", "until_ms": begins - 40 * 86_400_000},
            )
        ):
            Holds(past.database).place(Hold(id=f"hold_{n}", at_ms=n, user="ops", reason="no", **names))  # type: ignore[arg-type]
        past.remove("2021_01")
        await assert_gone(stage, [id])
        assert past.tables("2019_01") == []

    in_the_past(redis_url, archive_url, play)


def test_a_hold_is_in_force_at_once(redis_url: str, archive_url: str) -> None:
    """It is placed while the month that it names is being removed."""

    async def play(stage: Stage, past: Past) -> None:
        past.event("2019_01", "other")  # has to stay, so that PostgreSQL has steps, too
        ids = past.events(2 * AT_ONCE, "2019_02")
        past.event("2019_02", "other")
        held = ids[-1]
        steps = past.steps("2021_01", trustshare=6, other=120)
        assert next(steps).events == AT_ONCE
        Holds(past.database).place(Hold(id="hold_1", at_ms=1, user="ops", reason="case 7", event=held))
        assert sum(step.events for step in steps) == AT_ONCE - 1
        assert await stage.listed(source="trustshare") == [held]

    in_the_past(redis_url, archive_url, play)


def test_a_month_is_not_dropped_under_who_reads_it(redis_url: str, postgresql_url: str) -> None:
    async def play(stage: Stage, past: Past) -> None:
        old, young = past.event("2019_01"), past.event("2026_11")
        with past.database.reading():
            with pytest.raises(ArchiveBusy):
                past.remove("2021_01")
            await assert_whole(stage, past, [old, young])
        past.remove("2021_01")
        await assert_whole(stage, past, [young])
        # A report of an operator's own reads the tables of all months.
        past.event("2019_01")
        engine = sql.create_engine(postgresql_url)
        with engine.connect() as report:
            report.execute(sql.text("SELECT count(*) FROM events"))
            with pytest.raises(ArchiveBusy):
                past.remove("2021_01")
            assert await asyncio.to_thread(psql, postgresql_url, "SELECT count(*) FROM events") == "2"
        engine.dispose()
        past.remove("2021_01")
        assert await asyncio.to_thread(psql, postgresql_url, "SELECT id FROM events") == young

    in_the_past(redis_url, postgresql_url, play)


def test_pages_that_are_read_meanwhile_repeat_nothing_and_miss_nothing_that_stays(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage, past: Past) -> None:
        old = past.events(5, "2019_01") + past.events(5, "2019_02", "brief")
        stay = past.events(5, "2019_02") + past.events(5, "2019_03")
        steps = past.steps("2020_12", 22, brief=12)
        found: list[str] = []
        before = None
        while page := await stage.listed(limit=2, before=before):
            found += page
            before = page[-1]
            next(steps, None)
        assert "events_2019_01" not in past.tables("2019_01"), "it went while the pages were read"
        assert [step.events for step in steps if step.events] == []
        assert found == sorted(set(found), reverse=True)
        assert set(stay) <= set(found) <= {*stay, *old}
        await assert_whole(stage, past, stay)

    in_the_past(redis_url, archive_url, play)


def test_the_audit_goes_by_the_longest(redis_url: str, archive_url: str) -> None:
    async def play(_: Stage, past: Past) -> None:
        with past.database.writing() as connection:
            for month in ("2016_01", "2019_01", "2019_02"):
                row = {
                    "id": month,
                    "at_ms": named(month).begins_ms,
                    "action": "replay",
                    "user": "ops",
                    "entry": "{}",
                }
                connection.execute(sql.insert(audit), row)
        assert sum(step.entries for step in past.remove("2020_02", 12, other=36)) == 1
        assert [row.id for row in past.rows("SELECT id FROM audit ORDER BY id")] == ["2019_01", "2019_02"]
        past.remove("2020_02")
        assert [row.id for row in past.rows("SELECT id FROM audit")] == ["2019_02"]

    in_the_past(redis_url, archive_url, play)


def test_a_worker_does_it(redis_url: str, archive_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def play(stage: Stage, past: Past) -> None:
        old = [past.event("2019_01"), past.event("2019_02", "bank")]
        young = past.event("2019_02")
        source = {
            "name": "bank",
            "provider": "trustist",
            "path_tokens": ["t"],
            "currency": "GBP",
            "keep": "1mo",
        }
        config = parse_config(
            {"archive": {"url": archive_url, "keep": "100y"}, "sources": [source]},
        )
        keeper = Keeper(config, "worker-1", stage.store.client)
        for _ in range(10):
            await keeper.round()
        await assert_whole(stage, past, [old[0], young])
        keeper.configure(parse_config({"archive": {"url": archive_url, "keep": "1mo"}}))
        for _ in range(20):
            await keeper.round()
        assert await stage.listed() == []
        keeper.close()
        said = capsys.readouterr()
        assert "2019-02" in said.out + said.err
        assert not any(id in said.out + said.err for id in (*old, young))

    in_the_past(redis_url, archive_url, play)
