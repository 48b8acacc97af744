"""What operators did is listed from Redis and the archive as one, however far it has moved."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.archive.audit import AuditSearch
from shared.archive.database import Database
from shared.archive.writer import Writer
from shared.operations.audit import Audit, AuditView
from shared.store.audit import KEPT, note, oldest
from tests.integration.archive import Stage, on_stage, paid
from tests.integration.filled import Filled, with_redis
from tests.integration.test_archive import command_line
from tests.integration.test_cli import SOURCES, TARGETS, as_json, failed, ok, run, write

AUDIT = "hr:audit"


async def listed(stage: Stage, limit: int = 100, before: str | None = None, **wanted: Any) -> list[AuditView]:
    return await Audit(stage.store.client, stage.reader).entries(AuditSearch(**wanted), limit, before)


def test_the_audit_is_shown_as_before_wherever_it_is(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        assert await stage.replay("ledger", id) == 1
        await note(stage.store.client, "target paused", "ops\0", {"target": "crm", "reason": "“moving”"})
        before = await listed(stage)
        assert [view.action for view in before] == ["target paused", "replay"]
        assert before[1].planned == {"deliveries": {"ledger": 1}}
        await stage.move()
        assert await stage.redis.xlen(AUDIT) == 0
        assert await listed(stage) == before
        assert await listed(stage, action="replay") == before[1:]
        assert await listed(stage, user="ops\0") == before[:1]
        assert await Audit(stage.store.client, stage.reader).actions() == ["replay", "target paused"]
        query = "SELECT action, entry FROM audit ORDER BY at_ms, id LIMIT 1"
        action, _, entry = command_line(archive_url, query).strip().partition("|")
        assert action == "replay"
        assert msgspec.json.decode(entry)["selected"]["events"] == [id]

    on_stage(redis_url, archive_url, play)


def test_what_is_young_stays_in_redis(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        await note(stage.store.client, "admit", "ops", {})
        [entry] = await listed(stage)
        at_ms = int(entry.id.partition("-")[0])
        assert not (await stage.archiving.move(at_ms)).more
        assert await stage.redis.xlen(AUDIT) == 1
        assert (await stage.archiving.move(at_ms + 1)).more
        assert await stage.redis.xlen(AUDIT) == 0

    on_stage(redis_url, archive_url, play)


def test_an_entry_that_was_written_and_not_yet_removed_is_shown_once(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        for n in range(3):
            await note(stage.store.client, "admit", "ops", {"n": n})
        before = await listed(stage)
        database = Database(archive_url)
        writer = Writer(database)
        entries = await oldest(stage.store.client, 2**50)
        for _ in range(2):
            writer.audit.write(entries[:2])
        database.close()
        assert await listed(stage) == before
        await stage.move()
        assert await listed(stage) == before

    on_stage(redis_url, archive_url, play)


def test_pages_of_the_audit_miss_nothing_and_repeat_nothing_while_it_moves(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        # Of one millisecond, the tenth is not between the first and the second.
        for n in [*range(1, 13)]:
            await stage.redis.xadd(AUDIT, {"action": "admit", "user": "ops"}, id=f"1700000000000-{n}")
        for n in range(5):
            await stage.redis.xadd(AUDIT, {"action": "replay", "user": "ops"}, id=f"{1700000000001 + n}-0")
        expected = [view.id for view in await listed(stage)]
        assert len(expected) == 17
        found: list[str] = []
        before = None
        while page := await listed(stage, 3, before):
            found += [view.id for view in page]
            before = page[-1].id
            await stage.archiving.move(1700000000000 + len(found) // 3)
        assert found == expected
        assert [view.id for view in await listed(stage, since_ms=1700000000003, until_ms=1700000000004)] == [
            "1700000000004-0",
            "1700000000003-0",
        ]
        assert len(await listed(stage, until_ms=1700000000000)) == 12

    on_stage(redis_url, archive_url, play)


def test_more_entries_than_a_page_of_redis_are_found_by_what_few_have(redis_url: str) -> None:
    async def body(store: Filled) -> None:
        pipe: Any = store.client.redis.pipeline()
        for n in range(1200):
            pipe.xadd(AUDIT, {"action": "rare" if n == 3 else "admit", "user": "ops", "odd": "{no JSON"})
        await pipe.execute()
        audit = Audit(store.client)
        assert len(await audit.entries(AuditSearch(), KEPT)) == 1200
        [entry] = await audit.entries(AuditSearch(action="rare"), 10)
        assert entry.planned == {"odd": "{no JSON"}, "shown as it is"

    with_redis(redis_url, body)


@pytest.fixture(params=[False, True], ids=["redis", "archive"])
def config(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'archive.db'}"

    async def play(stage: Stage) -> None:
        ids = [await stage.done("ledger", **paid(n)) for n in range(3)]
        await stage.replay("ledger", *ids)
        await note(stage.store.client, "target paused", "someone", {"target": "crm", "reason": "new\x1b[1m"})
        if request.param:
            await stage.move()

    on_stage(redis_url, url, play)
    archive = f'[archive]\nurl = "{url}"\n' if request.param else ""
    return write(tmp_path, redis_url, archive + SOURCES + TARGETS)


def test_the_command_lists_who_did_what_and_how_much(config: str) -> None:
    head, paused, replayed = ok(config, "audit").splitlines()
    assert head.split() == ["ENTRY", "AT", "(UTC)", "ACTION", "BY", "OF", "WHAT", "HOW", "MANY"]
    assert "target paused" in paused
    assert "target: crm; reason: new\\x1b[1m" in paused
    assert "3 deliveries (ledger: 3)" in replayed
    [first, second] = as_json(config, "audit")["audit"]
    assert first["selected"] == {"target": "crm", "reason": "new\x1b[1m"}
    assert [each["id"] for each in as_json(config, "audit", "--user", "someone")["audit"]] == [first["id"]]
    assert as_json(config, "audit", "--before", first["id"])["audit"] == [second]
    assert as_json(config, "audit", "--limit", "1")["audit"] == [first]
    assert f"--before {first['id']}" in ok(config, "audit", "--limit", "1")
    assert "No entries match" in ok(config, "audit", "--until", "1h")
    assert "No entries match" in ok(config, "audit", "--until", "1h", "--action", "replay")
    failed(run(config, "audit", "--action", "repla"), 2, "'repla'", "replay, target paused")
    failed(run(config, "audit", "--before", "now"), 2, "1772445704112-0")
