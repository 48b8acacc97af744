"""Finished events are packed, and nobody who reads them notices."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from shared.archive.search import Search
from shared.errors import StoreUnavailable, StoreUnfit
from shared.event.ids import received_ms
from shared.operations.readmissions import Held, Readmissions
from shared.operations.replays import Replays, Selection
from shared.routing.reading import Reader
from shared.settings import Config, SourceSettings
from shared.store.dead_letters import DeadLetterList
from shared.store.deliveries import Deliveries
from shared.store.due import Attempt, End, Settlement
from shared.store.events import read_whole
from shared.store.keys import Keys
from shared.store.layout import LAYOUT
from shared.store.letters import Letters
from shared.store.packer import AT_ONCE, Packer
from shared.store.records import Records
from shared.store.transactions import Transactions
from shared.store.upkeep import Upkeep
from shared.store.views import CopyView, EventView
from shared.store.walk import Span
from tests.conftest import RedisServer
from tests.faults.kept import FOLDER, load
from tests.integration.filled import PAID, PATIENT, Filled, with_redis
from workers import packing

KEYS = Keys()
ALL = Span(0, 2**53)
SOURCES = ["trustshare"]
HOUR_MS = 3_600_000


async def pack(store: Filled) -> int:
    """Pack all that has finished, however young it is."""
    packer, packed = Packer(store.client, after_ms=-1000), 0
    while count := await packer.pack():
        packed += count
    return packed


async def done(store: Filled, *targets: str, body: Mapping[str, Any] | bytes = PAID) -> str:
    """Take an event all the way; each target has failed once before."""
    [id] = await store.receive(body if isinstance(body, bytes) else dict(body))
    await store.admit(*targets)
    for target in targets:
        await store.settle(target, End.RETRY)
        await asyncio.sleep(0.002)  # two claims of one millisecond would have one token
        await store.client.redis.zadd(KEYS.due(target), {id: 1})
        await store.settle(target, End.DONE, status=200)
    return id


def paid(token: str) -> dict[str, Any]:
    """Another event, of another transaction."""
    return PAID | {"token": token, "paymentToken": token}


async def replay(store: Filled, id: str, *targets: str) -> None:
    replays, selection = Replays(store.client, targets), Selection(ALL, events=(id,))
    done = await replays.run(selection, await replays.plan(selection), user="operator")
    assert done.deliveries == dict.fromkeys(targets, 1)


async def shown(store: Filled, id: str) -> list[Any]:
    """All that anybody can be told of an event."""
    records = Records(store.client)
    found = await records.find(id, SOURCES)
    assert isinstance(found, EventView)
    [listed] = await records.events(Search(source="trustshare", type="payment.*"), 10)
    assert listed == found
    return [
        found,
        await records.payload(found),
        await Deliveries(store.client).of_event(id, answers=True),
        await Transactions(store.client).events("trustshare", "tx-1"),
        await Replays(store.client, ["ledger"]).plan(Selection(ALL, type="payment.*")),
        await store.due.read([id]),
    ]


BODIES = {
    "usual": msgspec.json.encode(PAID),
    "tiny": b'{"type":"payment_received","token":"tx-1"}',
    # More than pieces are made of; it hardly shrinks.
    "large": msgspec.json.encode(
        PAID | {"description": "".join(chr(33 + (n * n * 7919 + n // 7) % 90) for n in range(40_000))}
    ),
    "not ASCII": msgspec.json.encode(PAID | {"description": "Überweisung \U0001f600"}),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_packed_event_is_shown_as_before_and_takes_less(redis_url: str, body: bytes) -> None:
    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        id = await done(store, "ledger", "crm", body=body)
        before = await shown(store, id)
        size = await redis.memory_usage(KEYS.event(id), samples=0)
        assert await pack(store) == 1
        assert await redis.hget(KEYS.event(id), "body") is None, "it is packed"
        assert await redis.exists(KEYS.attempts(id)) == 0
        assert await redis.memory_usage(KEYS.event(id), samples=0) < size
        assert await shown(store, id) == before
        assert await redis.zscore(KEYS.packed, id) == received_ms(id)
        assert await redis.zscore(KEYS.finished, id) is None
        assert await pack(store) == 0, "once"

    with_redis(redis_url, check)


def test_what_is_not_finished_or_too_young_is_left(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        young = await done(store, "ledger")
        [dead, waiting] = await store.receive(paid("d"), paid("w"))
        await store.admit("ledger")
        await store.settle("ledger", End.DEAD, most=1)
        assert await Packer(store.client).pack() == 0
        assert await pack(store) == 1
        assert await redis.zrange(KEYS.packed, 0, -1) == [young.encode()]
        for id in (dead, waiting):
            assert await redis.hget(KEYS.event(id), "body") is not None

    with_redis(redis_url, check)


def test_a_packed_event_is_sent_again_with_all_that_was_tried_and_packed_anew(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        id = await done(store, "ledger", "crm")
        await pack(store)
        await replay(store, id, "ledger")
        assert await redis.zscore(KEYS.packed, id) is None
        assert await redis.zscore(KEYS.open, id) == received_ms(id)
        [(claimed, event)] = (await store.claim("ledger")).entries
        assert event.body == msgspec.json.encode(PAID)
        attempt = Attempt(n=1, at_ms=claimed.token, duration_ms=1, status=400)
        await store.due.settle([Settlement(claimed, End.DEAD, 0, attempt)], {"ledger": PATIENT})

        [letter] = await DeadLetterList(store.client).listing(["ledger"], ALL, 10)
        assert letter.last is not None
        assert (letter.type, letter.last.status) == ("payment.received", 400)
        [stored] = await Letters(store.client).dead("ledger")
        assert stored.body == msgspec.json.encode(PAID)
        assert len(msgspec.json.decode(stored.attempts)) == 3, "of before and of now"
        assert await pack(store) == 0, "it is open"

        await replay(store, id, "ledger")
        await store.settle("ledger", End.DONE, status=200)
        before = await shown(store, id)
        assert await pack(store) == 1
        assert await redis.exists(KEYS.attempts(id)) == 0
        assert await shown(store, id) == before
        [ledger, crm] = await Deliveries(store.client).of_event(id) or []
        assert (len(ledger.attempts), len(crm.attempts)) == (4, 2)

    with_redis(redis_url, check)


def test_a_dead_letter_that_was_not_tried_again_shows_its_last_attempt(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        id = await done(store, "ledger")
        await pack(store)
        await replay(store, id, "ledger")
        [(claimed, _)] = (await store.claim("ledger")).entries
        await store.due.settle([Settlement(claimed, End.DEAD)], {"ledger": PATIENT})
        [letter] = await DeadLetterList(store.client).listing(["ledger"], ALL, 10)
        assert letter.last is not None
        assert letter.last.status == 200

    with_redis(redis_url, check)


def test_a_success_that_is_said_again_from_before_ends_no_replay(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        [id] = await store.receive(PAID)
        await store.admit("ledger")
        claims = await store.claim("ledger")
        [(claimed, _)] = claims.entries
        said = Settlement(claimed, End.DONE, 0, Attempt(n=1, at_ms=claims.now_ms, duration_ms=1, status=200))
        await store.due.settle([said], {"ledger": PATIENT})
        await pack(store)
        await replay(store, id, "ledger")
        assert await store.due.settle([said], {"ledger": PATIENT}) == ([False], {})
        found = await Records(store.client).find(id, SOURCES)
        assert isinstance(found, EventView)
        assert found.deliveries == {"ledger": "waiting"}

    with_redis(redis_url, check)


def test_copies_of_a_packed_event_are_compared_counted_and_admitted(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        records = Records(store.client)
        id = await done(store, "ledger")
        await pack(store)
        [same, other] = await store.receive(PAID, PAID | {"amount": 1})
        await store.admit("ledger")
        copies = [await records.find(copy, SOURCES) for copy in (same, other)]
        assert all(isinstance(copy, CopyView) for copy in copies)
        assert [copy.identical for copy in copies if isinstance(copy, CopyView)] == [True, False]
        first = await records.find(id, SOURCES)
        assert isinstance(first, EventView)
        assert (first.copies, first.differing) == (2, 1)

        held = Held(ALL, receipts=(same,))
        reader = Reader(Config(sources=(SourceSettings(name="trustshare", provider="trustshare"),)))
        readmissions = Readmissions(store.client, reader, retention_ms=HOUR_MS)
        admitted = await readmissions.run(held, await readmissions.plan(held), user="operator")
        assert admitted.admitted == 1
        [event] = await store.due.read([same])
        assert event is not None
        assert event.body == msgspec.json.encode(PAID), "the first's, which is packed"
        again = await readmissions.run(held, await readmissions.plan(held), user="operator")
        assert (again.admitted, again.gone) == (0, 1)

    with_redis(redis_url, check)


def test_an_event_that_changes_while_it_is_packed_is_left_as_it_is(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        ids = [await done(store, "ledger", body=paid(token)) for token in ("a", "b", "c")]
        run = store.client.run

        async def meanwhile(name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
            if name == "pack":
                monkeypatch.undo()
                await replay(store, ids[0], "ledger")  # it is open
                await replay(store, ids[1], "ledger")  # it has another attempt
                await redis.zadd(KEYS.due("ledger"), {ids[1]: 1})
                await store.settle("ledger", End.DONE, most=1, status=200)
            return await run(name, keys, args)

        monkeypatch.setattr(store.client, "run", meanwhile)
        await Packer(store.client, after_ms=-1000).pack()
        assert await redis.zrange(KEYS.packed, 0, -1) == [ids[2].encode()]
        assert await redis.zrange(KEYS.open, 0, -1) == [ids[0].encode()]
        assert await redis.zrange(KEYS.finished, 0, -1) == [ids[1].encode()]
        whole = await read_whole(store.client, ids[:2])
        assert [each is not None and each.packed for each in whole] == [None, None]
        assert await pack(store) == 1

    with_redis(redis_url, check)


def test_an_event_whose_record_is_gone_holds_up_no_other(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        gone, kept = [await done(store, "ledger", body=paid(token)) for token in ("a", "b")]
        await store.client.redis.delete(KEYS.event(gone), KEYS.attempts(gone))
        await pack(store)
        assert await store.client.redis.zcard(KEYS.finished) == 0
        assert [view.id for view in await Records(store.client).events(Search(), 10)] == [kept]

    with_redis(redis_url, check)


def test_retention_removes_packed_events_the_oldest_first_but_none_that_is_open(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        upkeep = Upkeep(store.client)
        bodies = [paid(f"tx-{n}") for n in range(4)]
        packed = [await done(store, "ledger", body=body) for body in bodies[:2]]
        await pack(store)
        unpacked = [await done(store, "ledger", body=body) for body in bodies[2:]]
        # As a version would leave it that packs nothing.
        await replay(store, packed[0], "ledger")
        await redis.zadd(KEYS.packed, {packed[0]: received_ms(packed[0])})

        removed = await upkeep.retain([], events_ms=HOUR_MS, dead_letters_ms=HOUR_MS, under_pressure=True)
        assert (removed.events, removed.duplicates) == (3, 0)
        assert [id for id in (*packed, *unpacked) if await redis.exists(KEYS.event(id))] == [packed[0]]
        assert await redis.exists(KEYS.packed, KEYS.finished) == 0
        assert len(await redis.keys("hr:transaction:*")) == 1
        assert await store.settle("ledger", End.DONE, status=200) == 1

    with_redis(redis_url, check)


def test_what_cannot_be_read_of_a_packed_event_is_an_error_in_one_line(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        id = await done(store, "ledger")
        await pack(store)
        for value in (b"\xff" + b"of a later version", b"\x01broken"):
            await store.client.redis.hset(KEYS.event(id), "0", value)
            with pytest.raises(StoreUnavailable, match=id):
                await Records(store.client).find(id, SOURCES)

    with_redis(redis_url, check)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("layout-*.json")), ids=lambda file: file.stem)
def test_finished_events_of_earlier_versions_are_packed_too(file: Path, folder: Path) -> None:
    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        ids = [id.decode() for id in await redis.zrange(KEYS.finished, 0, -1)]
        assert ids
        listed, before = await Records(store.client).events(Search(), 100), await read(store, ids)
        assert await pack(store) == len(ids)
        assert await read(store, ids) == before
        assert await Records(store.client).events(Search(), 100) == listed
        assert await redis.hget(KEYS.event(ids[0]), "body") is None

    async def read(store: Filled, ids: Sequence[str]) -> list[tuple[Any, Any]]:
        events = await read_whole(store.client, ids)
        return [(event.fields, event.attempts) for event in events if event is not None]

    with RedisServer(folder) as server:
        with server.client() as redis:
            load(redis, json.loads(file.read_text()))
        with_redis(server.url, check)


def test_a_worker_packs_what_has_finished_until_nothing_is_left(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "Packer", partial(Packer, after_ms=-1000))

    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        await store.events(2 * AT_ONCE + 1, "ledger")
        await store.settle("ledger", End.DONE, status=200)
        worker = packing.Packing(Config(), "w", store.client)
        working = asyncio.create_task(worker.run())
        await until(lambda: redis.zcard(KEYS.packed), 2 * AT_ONCE + 1)
        await redis.script_flush()  # as a restart of Redis would
        await store.receive(paid("another"))
        await store.admit("crm")
        await store.settle("crm", End.DONE, status=200)
        await until(lambda: redis.zcard(KEYS.packed), 2 * AT_ONCE + 2)
        assert not working.done()
        working.cancel()

    async def until(count: Callable[[], Awaitable[int]], wanted: int) -> None:
        async with asyncio.timeout(60):
            while await count() < wanted:  # noqa: ASYNC110  # what another connection does
                await asyncio.sleep(0.05)

    with_redis(redis_url, check)


def test_a_worker_packs_nothing_among_records_of_a_later_layout(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "Packer", partial(Packer, after_ms=-1000))

    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        await done(store, "ledger")
        await redis.set(KEYS.layout, LAYOUT + 1)
        with pytest.raises(StoreUnfit, match=f"layout {LAYOUT + 1}"):
            await packing.Packing(Config(), "w", store.client).run()
        assert await redis.zcard(KEYS.packed) == 0
        assert await redis.get(KEYS.layout) == str(LAYOUT + 1).encode()

    with_redis(redis_url, check)


def test_an_event_that_a_later_version_packed_is_said_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "Packer", partial(Packer, after_ms=-1000))
    monkeypatch.setattr(packing, "LOOK_S", 0.01)
    rounds = 0

    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        id = await done(store, "ledger")
        await pack(store)
        await redis.hset(KEYS.event(id), "0", b"\xff" + b"of a later version")
        await redis.zadd(KEYS.finished, {id: 1})  # as once a replay has been delivered
        looked = store.client.run

        async def counted(name: str, *called: Any) -> Any:
            nonlocal rounds
            rounds += name == "duty"
            return await looked(name, *called)

        monkeypatch.setattr(store.client, "run", counted)
        with capture_logs() as logs:
            working = asyncio.create_task(packing.Packing(Config(), "w", store.client).run())
            async with asyncio.timeout(60):
                while rounds < 4:  # noqa: ASYNC110  # what another task does
                    await asyncio.sleep(0.01)
            working.cancel()
        [line] = logs
        assert line["log_level"] == "error"
        assert line["reason"] == f"{id} was packed by a later version of Headrace"

    with_redis(redis_url, check)


def test_an_event_of_thousands_of_fields_stays_as_it_is_and_holds_up_no_other(redis_url: str) -> None:
    async def check(store: Filled) -> None:
        redis: Any = store.client.redis
        many, other = [await done(store, "ledger", body=paid(token)) for token in ("a", "b")]
        await redis.hset(KEYS.event(many), mapping={f"why:target-{n}": "x" for n in range(10_000)})
        assert await Packer(store.client, after_ms=-1000).pack() == 2
        assert await redis.zrange(KEYS.packed, 0, -1) == [many.encode(), other.encode()]
        assert await redis.hget(KEYS.event(many), "body") is not None
        assert await redis.hget(KEYS.event(other), "body") is None
        await replay(store, many, "ledger")
        assert await store.settle("ledger", End.DONE, status=200) == 1

    with_redis(redis_url, check)
