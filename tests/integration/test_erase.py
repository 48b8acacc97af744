"""A person is erased wherever something is kept of them, and nobody else is; what is left names nobody."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sql

from shared.archive.database import Database, months_of
from shared.archive.dead_letters import DeadLetterFile
from shared.archive.holds import Hold, Holds
from shared.archive.person import ERASED, Person
from shared.archive.tables import tables
from shared.archive.writer import Writer
from shared.operations.archiving import AT_ONCE
from shared.operations.erasure import Erased, Erasure, ErasurePlan
from shared.operations.moves import Moves
from shared.settings import ArchiveSettings, Config, SourceSettings
from shared.store.due import End
from shared.store.erasing import Erasing
from shared.store.events import read_whole
from shared.store.finished import Finished
from shared.store.packer import Packer
from tests.integration.archive import Stage, on_stage, paid
from tests.integration.filled import ANSWER, E_MAIL, PAID

OTHER = "other.person@example.net"
WORD = b"canary"  # of the name, which the index of words has


async def erase(
    stage: Stage, name: str = E_MAIL, *, with_waiting: bool = False, file: str = "", **person: Any
) -> tuple[ErasurePlan, Erased]:
    """Erase a person. Returns what was planned, and what is left."""
    config = Config(
        archive=ArchiveSettings(url=stage.url, dead_letters=file),
        sources=(SourceSettings(name="trustshare", provider="trustshare"),),
    )
    erasure = Erasure(stage.store.client, config, Person(name, **person))
    try:
        plan = await erasure.plan()
        return plan, await erasure.run(plan, with_waiting=with_waiting, user="op", done=lambda _: None)
    finally:
        erasure.close()


async def in_redis(stage: Stage) -> bytes:
    """Return all values in Redis, one behind the other; of packed events also what is packed."""
    parts: list[bytes] = []
    for key in await stage.redis.keys("*"):
        kind = (await stage.redis.type(key)).decode()
        if kind == "hash":
            parts += [part for pair in (await stage.redis.hgetall(key)).items() for part in pair]
        elif kind == "stream":
            entries = await stage.redis.xrange(key)
            parts += [part for _, fields in entries for pair in fields.items() for part in pair]
        elif kind == "string":
            parts.append(await stage.redis.get(key))
        if key.startswith(b"hr:event:"):
            [whole] = await read_whole(stage.store.client, [key.removeprefix(b"hr:event:").decode()])
            assert whole is not None
            parts += [*whole.fields.values(), *whole.attempts.values()]
    return b"\n".join(parts)


async def in_archive(stage: Stage) -> bytes:
    """Return all that the archive's columns hold, and what its payloads are."""

    def read() -> list[bytes]:
        database, parts = Database(stage.url), []
        with database.reading() as connection:
            for name in sql.inspect(connection).get_table_names():
                statement = sql.select(sql.text("*")).select_from(sql.table(name))
                for row in connection.execute(statement):
                    parts += [value if isinstance(value, bytes) else str(value).encode() for value in row]
            months = [tables(month) for month in months_of(connection)]
            ids = [id for month in months for id in connection.scalars(sql.select(month.events.c.id))]
            copies = [id for month in months for id in connection.scalars(sql.select(month.copies.c.id))]
        parts += [msgspec.msgpack.encode(event) for event in stage.reader.events(ids)]
        parts += [msgspec.msgpack.encode(stage.reader.copy(id)) for id in copies]
        database.close()
        return parts

    return b"\n".join(await asyncio.to_thread(read))


async def kept(stage: Stage) -> bytes:
    return await in_redis(stage) + await in_archive(stage)


async def body_of(stage: Stage, id: str) -> bytes:
    found = await stage.events.find(id, ["trustshare"])
    assert found is not None
    record: Any = await stage.events.payload(found)
    body: bytes = record.body
    return body


async def whole_of(stage: Stage, id: str) -> list[Any]:
    """Return an event or a copy, and its payload."""
    found = await stage.events.find(id, ["trustshare"])
    assert found is not None
    return [found, await stage.events.payload(found), await stage.events.deliveries(id, answers=True)]


async def in_many_places(stage: Stage) -> dict[str, str]:
    """Have events of one person in all places, some with copies. Returns place → event."""
    places = {}
    for number, place in enumerate(["archive", "packed", "finished"]):
        places[place] = await stage.done("ledger", **paid(number))
        await stage.done("ledger", **paid(number, description=f"a copy, from {E_MAIL}"))
        if place == "archive":
            await stage.move()
            await stage.done("ledger", **paid(number, description=f"a late copy, from {E_MAIL}"))
        if place == "packed":
            assert await Packer(stage.store.client, after_ms=-1000).pack() == 1
    [places["dead"]] = await stage.store.receive(PAID | paid(7))
    await stage.store.admit("ledger")
    await stage.store.settle("ledger", End.DEAD)
    await stage.store.receive(f"not JSON, about {E_MAIL}".encode())
    await stage.store.admit("ledger")
    return places


def test_a_person_is_erased_everywhere_and_nobody_else(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        others = {"from": OTHER, "description": f"x{E_MAIL}"}
        untouched = [await stage.done("ledger", **paid(100, **others))]
        await stage.move()
        untouched.append(await stage.done("ledger", **paid(101, **others)))
        before = [await stage.shown(id) for id in untouched]
        places = await in_many_places(stage)
        shown = {place: await stage.shown(id) for place, id in places.items()}
        assert WORD in await in_redis(stage)
        assert WORD in await in_archive(stage)

        plan, erased = await erase(stage)
        assert plan == ErasurePlan(events_in_redis=3, events_in_archive=1, copies=4, in_quarantine=1)
        assert erased == Erased(0, [])
        assert [await stage.shown(id) for id in untouched] == before
        everything = await kept(stage)
        assert E_MAIL.encode() not in everything.replace(f"x{E_MAIL}".encode(), b"")
        for place, id in places.items():
            view, _, deliveries, _ = shown[place]
            now = await stage.shown(id)
            assert now[0] == view, "it is listed as before"
            assert now[1].body == ERASED
            data = msgspec.json.decode(now[1].data)
            assert (data["parties"], data["details"]) == ({}, {})
            assert [(each.state, each.failed, each.why) for each in now[2]] == [
                (each.state, each.failed, each.why) for each in deliveries
            ]
            assert [attempt.status for each in now[2] for attempt in each.attempts] == [
                attempt.status for each in deliveries for attempt in each.attempts
            ]
            assert not any(attempt.answer for each in now[2] for attempt in each.attempts)
        assert await stage.listed(party=E_MAIL) == []
        assert await stage.listed(text="buyer example") == untouched[::-1], "the others' texts have the words"
        assert (await erase(stage))[0].total == 0, "what is erased is found no more"

    on_stage(redis_url, archive_url, play)


def test_what_is_erased_is_moved_to_the_archive_as_it_is(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        places = await in_many_places(stage)
        await stage.discard("ledger", places["dead"])
        await erase(stage)
        shown = [await stage.shown(id) for id in places.values()]
        await stage.move()
        assert await stage.keys() == set()
        assert [await stage.shown(id) for id in places.values()] == shown
        everything = await kept(stage)
        assert WORD not in everything
        assert ANSWER.encode() not in everything

    on_stage(redis_url, archive_url, play)


def test_what_waits_is_left_and_said_or_erased_and_its_deliveries_discarded(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        [waiting, behind, other] = await stage.store.receive(
            PAID, PAID | {"paymentToken": "pay-2"}, PAID | {"paymentToken": "pay-3", "from": OTHER}
        )
        await stage.store.admit_in_order("ledger")
        [inbox] = await stage.store.receive(PAID | paid(4))
        plan, erased = await erase(stage)
        assert (plan.waiting, plan.in_inboxes, erased) == (2, 1, Erased(3, []))
        assert E_MAIL.encode() in await body_of(stage, waiting)

        assert (await erase(stage, with_waiting=True))[1] == Erased(0, [])
        assert await stage.events.find(inbox, ["trustshare"]) is None
        await stage.store.admit("ledger")
        for id in (waiting, behind):
            assert await body_of(stage, id) == ERASED
            deliveries = await stage.events.deliveries(id)
            assert deliveries is not None
            assert [each.state for each in deliveries] == ["discarded"]
        assert WORD not in await kept(stage)
        claims = await stage.store.claim("ledger")
        assert [claimed.event_id for claimed, _ in claims.entries] == [other], "the next of its transaction"

    on_stage(redis_url, archive_url, play)


def test_an_event_that_is_on_its_way_is_erased_only_afterwards(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        [id] = await stage.store.receive(PAID)
        await stage.store.admit("ledger")
        await stage.store.claim("ledger")
        erasing = Erasing(stage.store.client, Person(E_MAIL), {})
        assert await erasing.erase_events([id], discard=True) == {"leased": 1}
        assert E_MAIL.encode() in await body_of(stage, id)

    on_stage(redis_url, archive_url, play)


def test_one_that_is_in_both_or_came_back_is_erased_in_both(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        both, back = await stage.done("ledger", **paid(1)), await stage.done("ledger", **paid(2))
        batch = await Finished(stage.store.client).oldest(2**50, AT_ONCE)

        def write() -> None:
            database = Database(stage.url)
            assert Writer(database).write(batch.events, batch.copies) == []
            database.close()

        await asyncio.to_thread(write)
        assert await Finished(stage.store.client).remove(msgspec.structs.replace(batch, read=batch.read[1:]))
        assert await stage.replay("ledger", back) == 1
        await stage.store.settle("ledger", End.DONE, status=200)
        plan, erased = await erase(stage)
        assert (plan.events_in_redis, plan.events_in_archive, erased) == (2, 2, Erased(0, []))
        assert WORD not in await kept(stage)
        assert await stage.move() == 2
        assert WORD not in await kept(stage)
        assert await body_of(stage, both) == ERASED

    on_stage(redis_url, archive_url, play)


def test_what_was_read_before_is_neither_packed_nor_removed_afterwards(
    redis_url: str, archive_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        client = stage.store.client
        batch = await Finished(client).oldest(2**50, AT_ONCE)
        run = client.run

        async def meanwhile(name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
            if name == "pack":
                monkeypatch.undo()
                assert await Erasing(client, Person(E_MAIL), {}).erase_events([id], discard=False) == {
                    "erased": 1
                }
            return await run(name, keys, args)

        monkeypatch.setattr(client, "run", meanwhile)
        packer = Packer(client, after_ms=-1000)
        await packer.pack()
        assert await body_of(stage, id) == ERASED
        assert await Finished(client).remove(batch) == 0
        assert await body_of(stage, id) == ERASED
        await packer.pack()
        assert await stage.redis.hexists(f"hr:event:{id}", "packed")
        assert await body_of(stage, id) == ERASED

    on_stage(redis_url, archive_url, play)


def test_an_erasure_that_was_killed_after_redis_is_finished_by_the_next_one(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        await stage.move()
        assert await stage.replay("ledger", id) == 1
        await stage.store.settle("ledger", End.DONE, status=200)
        erasing = Erasing(stage.store.client, Person(E_MAIL), {})
        assert await erasing.erase_events([id], discard=False) == {"erased": 1}
        assert WORD in await in_archive(stage)
        plan, _ = await erase(stage)
        assert plan == ErasurePlan(events_in_archive=1)
        assert WORD not in await kept(stage)

    on_stage(redis_url, archive_url, play)


def test_words_of_an_erased_event_leave_the_archive_when_it_is_moved_there_again(
    redis_url: str, archive_url: str
) -> None:
    async def play(stage: Stage) -> None:
        id = await stage.done("ledger")
        await stage.move()
        assert await stage.replay("ledger", id) == 1
        await stage.store.settle("ledger", End.DONE, status=200)
        await Erasing(stage.store.client, Person(E_MAIL), {}).erase_events([id], discard=False)
        await stage.move()
        assert await stage.listed(text="canary") == []
        assert (await erase(stage))[0].total == 0, "and yet the files are written anew"
        assert WORD not in await kept(stage)

    on_stage(redis_url, archive_url, play)


def test_only_one_provider_is_asked_about_if_it_is_named(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        archived = await stage.done("ledger", **paid(1))
        await stage.move()
        await stage.done("ledger", **paid(2))
        assert (await erase(stage, provider="trustap"))[0].total == 0
        assert (await erase(stage, provider="trustshare"))[0].total == 2
        assert await body_of(stage, archived) == ERASED

    on_stage(redis_url, archive_url, play)


def test_what_a_hold_keeps_is_left_and_counted(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        archived = [await stage.done("ledger", **paid(number)) for number in range(3)]
        copy = await stage.done("ledger", **paid(0, description=f"a copy, from {E_MAIL}"))
        await stage.move()
        late = await stage.done("ledger", **paid(0, description=f"a late copy, from {E_MAIL}"))
        here = [await stage.done("ledger", **paid(number)) for number in range(3, 6)]
        placed: list[dict[str, Any]] = [
            {"event": archived[0]},
            {"provider": "trustshare", "transaction_id": "tx-1"},
            {"event": here[0]},
            {"provider": "trustshare", "transaction_id": "tx-4"},
        ]

        def place() -> None:
            holds = Holds(Database(stage.url))
            for number, names in enumerate(placed):
                holds.place(Hold(id=f"hold_{number}", at_ms=1, user="op", reason="a court", **names))
            holds.close()

        await asyncio.to_thread(place)
        held = [*archived[:2], *here[:2]]
        before = [await whole_of(stage, id) for id in (*held, copy, late)]
        plan, erased = await erase(stage)
        assert (plan.events_in_redis, plan.events_in_archive, plan.copies) == (1, 1, 0)
        assert plan.held == len(held)
        assert erased == Erased(0, [])
        assert [await whole_of(stage, id) for id in (*held, copy, late)] == before
        for id in (archived[2], here[2]):
            assert await body_of(stage, id) == ERASED

    on_stage(redis_url, archive_url, play)


def test_the_audit_has_the_hash_and_not_the_name(redis_url: str, archive_url: str) -> None:
    async def play(stage: Stage) -> None:
        await stage.done("ledger")
        await stage.move()
        await erase(stage)
        [(_, entry)] = await stage.redis.xrange("hr:audit")
        assert entry[b"action"] == b"erase"
        selected = msgspec.json.decode(entry[b"selected"])
        assert len(selected["party"]) == 32
        assert msgspec.json.decode(entry[b"records"]) == {"events_in_archive": 1}

    on_stage(redis_url, archive_url, play)


def test_dead_letters_on_disk_are_erased_and_their_file_is_written_anew(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        url = f"sqlite:///{tmp_path / 'dead-letters.db'}"
        ids = await stage.store.receive(PAID | paid(1), PAID | paid(2, **{"from": OTHER}))
        await stage.store.admit("ledger")
        assert await stage.store.settle("ledger", End.DEAD) == 2
        await Moves(stage.store.client, url).dead_letters("ledger", hold=False)
        await stage.move()
        file = DeadLetterFile(url)
        before = {letter.id: letter for letter in await asyncio.to_thread(file.whole, limit=10)}
        assert before.keys() == set(ids)
        assert holding(tmp_path) != []
        plan, erased = await erase(stage, file=url)
        assert (plan.dead_letters_on_disk, erased) == (1, Erased(0, []))
        after = {letter.id: letter for letter in await asyncio.to_thread(file.whole, limit=10)}
        assert after[ids[0]].body == ERASED
        assert after[ids[1]] == before[ids[1]]
        assert holding(tmp_path) == []
        assert ANSWER.encode() not in after[ids[0]].attempts

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)


def holding(folder: Path) -> list[str]:
    """Return the files in a folder that have the name."""
    return [path.name for path in sorted(folder.iterdir()) if E_MAIL.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("name", "body", "named"),
    [
        (E_MAIL, b'{"to": "canary.buyer@example.com"}', True),
        (E_MAIL, b'{"to": "Canary.Buyer@Example.COM"}', True),
        (E_MAIL, b'{"to": "canary.buyer\\u0040example.com"}', True),
        (E_MAIL, b'{"canary.buyer@example.com": 1}', True),
        (E_MAIL, b'{"note": "from <canary.buyer@example.com>."}', True),
        (E_MAIL, b"from canary.buyer@example.com, not JSON \\", True),
        (E_MAIL, b'{"to": "a.canary.buyer@example.com"}', False),
        (E_MAIL, b'{"to": "canary.buyer@example.com.au"}', False),
        (E_MAIL, b'{"to": "canary.buyer@example.community"}', False),
        ("42", b'{"amount": 42, "note": "42"}', False),
        ("----------", b'{"note": "----------"}', False),
    ],
)
def test_a_name_is_found_in_a_body_as_a_whole(name: str, body: bytes, named: bool) -> None:
    assert Person(name).is_named_in(body) is named
