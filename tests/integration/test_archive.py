"""Finished events are moved to the archive, in SQLite or PostgreSQL, and nobody who reads them notices."""

import asyncio
import subprocess
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
import pytest
import sqlalchemy as sql

from shared.archive.database import Database
from shared.archive.dead_letters import DeadLetterFile
from shared.archive.versions import VERSION_TABLE
from shared.archive.writer import Writer
from shared.errors import ArchiveBusy, ArchiveUnavailable, ArchiveUnfit
from shared.operations.archived import Archived
from shared.operations.archiving import AT_ONCE
from shared.operations.dead_letters import Chosen, DeadLetters
from shared.operations.events import Events
from shared.operations.moves import Moves
from shared.operations.readmissions import Held, Readmissions
from shared.operations.replays import Replays, Selection
from shared.routing.reading import Reader as BodyReader
from shared.settings import ArchiveSettings, Config, SourceSettings
from shared.store.due import End
from shared.store.finished import Finished
from shared.store.packer import Packer
from shared.store.views import CopyView, EventView
from shared.store.walk import ALWAYS
from tests.integration.archive import Stage, on_stage, paid
from tests.integration.filled import E_MAIL, HOUR_MS, PAID
from tests.postgresql import psql
from tests.programs import program


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
def test_an_archived_event_is_shown_as_before_and_takes_no_memory(
    redis_url: str, archive_url: str, packed: bool
) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger", "crm")
        if packed:
            assert await Packer(stage.store.client, after_ms=-1000).pack() == 1
        before = await stage.shown(id)
        assert await stage.move() == 1
        assert await stage.keys() == set()
        assert await stage.shown(id) == before
        assert await stage.move() == 0, "once"

    on_stage(redis_url, archive_url, play)


def test_what_is_open_or_too_young_stays(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        [dead, waiting] = await stage.store.receive(PAID | paid(1), PAID | paid(2))
        await stage.store.admit("ledger")
        await stage.store.settle("ledger", End.DEAD, most=1)
        young = await stage.done("crm", **paid(3))
        assert (await stage.archiving.move(1)).count == 0
        assert await stage.move() == 1
        assert {
            key.removeprefix("hr:event:") for key in await stage.keys() if key.startswith("hr:event:")
        } == {
            dead,
            waiting,
        }
        assert await stage.listed() == sorted([dead, waiting, young], reverse=True)

    on_stage(redis_url, archive_url, play)


def test_one_that_was_written_and_not_yet_removed_is_shown_once(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        before = await stage.shown(id)
        batch = await Finished(stage.store.client).oldest(2**50, AT_ONCE)
        database = Database(archive_url)
        assert Writer(database).write(batch.events, batch.copies) == []
        database.close()
        assert await stage.shown(id) == before
        assert await stage.listed() == [id]
        assert await stage.move() == 1
        assert await stage.shown(id) == before

    on_stage(redis_url, archive_url, play)


def test_one_that_changes_while_it_is_written_stays_and_is_archived_anew(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        finished = Finished(stage.store.client)
        replayed, copied = await stage.done("ledger", **paid(1)), await stage.done("ledger", **paid(2))
        batch = await finished.oldest(2**50, AT_ONCE)
        assert await stage.replay("ledger", replayed) == 1
        await stage.store.settle("ledger", End.DONE, status=201)
        await stage.done("ledger", **paid(2))
        assert await finished.remove(batch) == 0
        before = [await stage.shown(id) for id in (replayed, copied)]
        assert await stage.move() == 3
        assert [await stage.shown(id) for id in (replayed, copied)] == before
        [delivery] = before[0][2]
        assert [attempt.status for attempt in delivery.attempts] == [200, 201]
        assert before[1][0].copies == 1

    on_stage(redis_url, archive_url, play)


def test_an_archived_event_is_sent_again_and_archived_anew(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        before = await stage.shown(id)
        await stage.move()
        assert await stage.replay("ledger", id) == 1
        assert await stage.listed(state="waiting") == [id]
        assert await stage.listed(state="done") == [], "the archive's row is of before"
        assert (await stage.shown(id))[1] == before[1]
        await stage.store.settle("ledger", End.DONE, status=202)
        assert await stage.move() == 1
        [delivery] = (await stage.shown(id))[2]
        assert [attempt.status for attempt in delivery.attempts] == [200, 202]
        assert await stage.listed(state="done") == [id]

    on_stage(redis_url, archive_url, play)


def test_a_span_is_sent_again_from_redis_and_the_archive_each_event_once(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        old = [await stage.done("ledger", **paid(n)) for n in range(3)]
        await stage.move()
        young = [await stage.done("ledger", **paid(n)) for n in range(3, 6)]
        assert await stage.replay("ledger") == 6
        assert sorted(await stage.listed(state="waiting")) == sorted(old + young)

    on_stage(redis_url, archive_url, play)


def test_pages_miss_nothing_and_repeat_nothing_while_events_move(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        ids = [await stage.done("ledger", **paid(n)) for n in range(12)]
        found: list[str] = []
        before = None
        while page := await stage.listed(limit=2, before=before):
            found += page
            before = page[-1]
            # The oldest move, and one of those comes back and is delivered again.
            batch = await Finished(stage.store.client).oldest(2**50, 2)
            if batch.events:
                database = Database(archive_url)
                Writer(database).write(batch.events, batch.copies)
                database.close()
                await Finished(stage.store.client).remove(batch)
                await stage.replay("ledger", batch.events[0].id)
        assert found == sorted(ids, reverse=True)

    on_stage(redis_url, archive_url, play)


SEARCHES: dict[str, dict[str, Any]] = {
    "any id": {"id": "pay-7"},
    "transaction": {"transaction": "tx-7"},
    "payment": {"payment": "pay-7"},
    "status of an attempt": {"status": 418},
    "error of an attempt": {"error": "timeout"},
    "source": {"source": "other"},
    "type": {"type": "dispute.raised"},
    "glob": {"type": "disp*.rai[rs]ed"},
    "state": {"state": "discarded"},
    "target": {"target": "crm"},
    "target in a state": {"target": "crm", "state": "done"},
    "currency": {"currency": "JPY"},
    "amount": {"currency": "GBP", "least": 777, "most": 777},
    "party": {"party": " Seventh@Example.com"},
    "text": {"text": "the SEVENTH flat"},
}


@pytest.mark.parametrize("wanted", SEARCHES.values(), ids=SEARCHES)
def test_events_are_found_in_redis_and_in_the_archive_by_the_same_words(
    redis_url: str, archive_url: str, wanted: dict[str, Any]
) -> None:
    async def play(stage: Stage) -> None:
        fitting = paid(7, amount=777, description="rent of the seventh flat") | {
            "from": "seventh@example.com"
        }
        store = stage.store
        for n in range(3):
            await stage.done("ledger", **paid(n))
        if "source" in wanted:
            [found] = await store.receive(PAID | fitting, source="other")
            await store.admit("ledger", source="other")
            await store.settle("ledger", End.DONE, status=200)
        elif "state" in wanted and "target" not in wanted:
            [found] = await store.receive(PAID | fitting)
            await store.admit("ledger")
            await store.settle("ledger", End.DEAD)
            await stage.discard("ledger", found)
        elif "error" in wanted or "status" in wanted:
            [found] = await store.receive(PAID | fitting)
            await store.admit("ledger")
            await store.settle("ledger", End.RETRY, status=wanted.get("status"))
            await stage.redis.zadd("hr:due:ledger", {found: 1})
            await asyncio.sleep(0.002)  # two claims of one millisecond would have one token
            await store.settle("ledger", End.DONE, status=200)
        elif "type" in wanted:
            [found] = await store.receive({"type": "dispute_raised", "token": "tx-7"})
            await store.admit("ledger")
            await store.settle("ledger", End.DONE, status=200)
        elif wanted == {"currency": "JPY"}:
            found = await stage.done("ledger", **fitting, currency="JPY")
        else:
            found = await stage.done(wanted.get("target", "ledger"), **fitting)
        assert await stage.listed(**wanted) == [found], "in Redis"
        assert await stage.move() == 4
        assert await stage.listed(**wanted) == [found], "in the archive"
        assert await stage.listed(**wanted, before=found) == []

    on_stage(redis_url, archive_url, play)


def test_a_copy_of_an_archived_event_is_compared_counted_and_admitted_by_hand(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        await stage.move()
        same, other = await stage.store.receive(PAID, PAID | {"description": "in other words"})
        await stage.store.admit("ledger")
        assert await stage.move() == 2
        kept = await stage.events.find(id, [])
        assert isinstance(kept, EventView)
        assert (kept.copies, kept.differing) == (2, 1)
        copies = {view.id: view.identical for view in await stage.events.copies(ALWAYS, None, 10)}
        assert copies == {same: True, other: False}
        copy = await stage.events.find(other, [])
        assert isinstance(copy, CopyView)
        assert await stage.events.payload(copy) == msgspec.json.encode(
            PAID | {"description": "in other words"}
        )
        reader = BodyReader(Config(sources=(SourceSettings(name="trustshare", provider="trustshare"),)))
        readmissions = Readmissions(
            stage.store.client, reader, retention_ms=HOUR_MS, archive=Archived(stage.reader)
        )
        held = Held(ALWAYS, receipts=(other,))
        admitted = await readmissions.run(held, await readmissions.plan(held), user="operator")
        assert admitted.admitted == 1
        assert [view.id for view in await stage.events.copies(ALWAYS, None, 10)] == [same]
        await stage.move()
        kept = await stage.events.find(other, [])
        assert isinstance(kept, EventView)
        assert kept.copy_of == id
        assert [view.id for view in await stage.events.copies(ALWAYS, None, 10)] == [same]

    on_stage(redis_url, archive_url, play)


def test_what_the_database_does_not_take_stays_in_redis_is_named_and_holds_up_nothing(
    redis_url: str, postgresql_url: str
) -> None:
    async def play(stage: Stage) -> None:
        bad, long = [await stage.done("ledger", **paid(n)) for n in range(2)]
        for id, payment in ((bad, "nul \0 in it"), (long, token_hex(5000))):  # no adapter lets these in today
            data = msgspec.json.decode(await stage.redis.hget(f"hr:event:{id}", "data"))
            await stage.redis.hset(
                f"hr:event:{id}", "data", msgspec.json.encode(data | {"payment_id": payment})
            )
        good = [await stage.done("ledger", **paid(n)) for n in range(2, 7)]
        assert await stage.move() == 5
        assert set(stage.archiving.refused) == {bad, long}
        assert "nul" not in str(stage.archiving.refused)
        assert set(await stage.listed()) == {bad, long, *good}
        assert await stage.listed(payment="nul \0 in it") == [bad]

    on_stage(redis_url, postgresql_url, play)


def test_a_database_of_a_later_version_is_refused(archive_url: str) -> None:
    database = Database(archive_url)
    Writer(database).take_up()
    with database.writing() as connection:
        connection.execute(
            sql.update(sql.table(VERSION_TABLE, sql.column("version_num"))).values(version_num="9999")
        )
    database.close()
    later = Database(archive_url)
    with pytest.raises(ArchiveUnfit, match="later version of Headrace \\(9999; this one knows"):
        Writer(later).take_up()
    later.close()


def test_a_database_that_is_away_is_said_without_its_password() -> None:
    database = Database("postgresql+psycopg://someone:very-secret@127.0.0.1:1/headrace")
    with pytest.raises(ArchiveUnavailable) as failed, database.reading():
        pass
    assert "127.0.0.1:1" in str(failed.value)
    assert "very-secret" not in str(failed.value)


def command_line(url: str, query: str) -> str:
    """Return what `sqlite3` or `psql` prints for a query."""
    if not url.startswith("sqlite"):
        return psql(url, query)
    argv = [program("sqlite3", "sqlite3"), "-readonly", url.removeprefix("sqlite:///"), query]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_the_command_lines_of_sqlite_and_postgresql_show_the_columns(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        await stage.move()
        query = (
            "SELECT e.id, e.source, e.type, e.payment_id, e.amount, e.currency, d.target, d.state, a.status"
            " FROM events e JOIN deliveries d ON d.id = e.id JOIN attempts a ON a.id = e.id"
        )
        shown = await asyncio.to_thread(command_line, archive_url, query)
        assert shown.strip().split("|") == [
            id,
            "trustshare",
            "payment.received",
            "pay-1",
            "150000",
            "GBP",
            "ledger",
            "done",
            "200",
        ]
        assert E_MAIL not in shown

    on_stage(redis_url, archive_url, play)


@pytest.mark.parametrize("how", ["discarded", "expired", "replayed"])
def test_an_archived_event_follows_what_becomes_of_its_dead_letter_on_the_disk(
    redis_url: str, archive_url: str, tmp_path: Path, how: str
) -> None:
    async def play(stage: Stage) -> None:
        [id] = await stage.store.receive(PAID)
        await stage.store.admit("ledger", "crm")
        await stage.store.settle("crm", End.DONE, status=200)
        await stage.store.settle("ledger", End.DEAD, status=500)
        url = f"sqlite:///{tmp_path / 'dead-letters.db'}"
        moves = Moves(stage.store.client, url, ArchiveSettings(url=archive_url))
        assert (await moves.dead_letters("ledger", hold=False)).letters == 1
        assert await stage.move() == 1
        file = DeadLetterFile(url)
        stage.events = Events(stage.store.client, file, stage.reader)
        assert await stage.listed(state="dead") == [id]
        dead, done = await stage.deliveries(id)
        assert (dead.state, [attempt.status for attempt in dead.attempts]) == ("dead", [500])
        assert (done.state, [attempt.status for attempt in done.attempts]) == ("done", [200])
        if how == "discarded":
            letters = DeadLetters(stage.store.client, file, stage.reader)
            chosen = Chosen(("ledger",), ALWAYS)
            planned = await letters.count(chosen)
            assert planned == {"ledger": 1}
            await letters.discard(chosen, planned, user="operator", done=lambda _: None)
        elif how == "expired":
            assert await moves.expire(2**50) == 1
        else:
            replays = Replays(stage.store.client, ["ledger", "crm"], file, stage.reader)
            selection = Selection(ALWAYS, dead_letters_of="ledger")
            replayed = await replays.run(selection, await replays.plan(selection), user="operator")
            assert replayed.deliveries == {"ledger": 1}
            await stage.store.settle("ledger", End.DONE, status=201)
            assert await stage.move() == 1
        state = "done" if how == "replayed" else how
        assert await stage.listed(state="dead") == []
        assert await stage.listed(target="ledger", state=state) == [id]
        ended, done = await stage.deliveries(id)
        assert ended.state == state
        assert (done.state, [attempt.status for attempt in done.attempts]) == ("done", [200])

    on_stage(redis_url, archive_url, play)


def test_a_worker_that_stood_still_writes_nothing_over_what_another_has_moved_since(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        writer = Writer(Database(archive_url))
        turn = await asyncio.to_thread(writer.begin_turn)
        batch = await Finished(stage.store.client).oldest(2**50, AT_ONCE)
        # Meanwhile another worker archives it, it is sent again, and archived anew.
        assert await stage.move() == 1
        assert await stage.replay("ledger", id) == 1
        await stage.store.settle("ledger", End.DONE, status=202)
        assert await stage.move() == 1
        with pytest.raises(ArchiveBusy):
            await asyncio.to_thread(writer.write, batch.events, batch.copies, turn)
        [delivery] = await stage.deliveries(id)
        assert [attempt.status for attempt in delivery.attempts] == [200, 202]

    on_stage(redis_url, archive_url, play)
