"""Exports hold every event once, in Redis or in the archive, and verification finds whatever was changed."""

import asyncio
import base64
import gc
import gzip
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.archive.months import month_at
from shared.archive.search import Search
from shared.delivery.formats import compose
from shared.errors import ExportFailed
from shared.event.ids import received_ms
from shared.event.record import EventRecord
from shared.operations.archived import Archived
from shared.operations.events import Events
from shared.operations.export_files import Checked, label, verify
from shared.operations.exports import Exports
from shared.secrets import Secret
from shared.store.clock import now_ms
from shared.store.due import End
from shared.store.views import EventView
from tests.integration.archive import Stage, on_stage, paid
from tests.integration.filled import ANSWER, E_MAIL, PAID
from tests.integration.test_cli import (
    HEADRACE,
    SOURCES,
    TARGETS,
    as_json,
    failed,
    ok,
    on_a_terminal,
    run,
    write,
)
from tests.integration.test_erase import erase
from tests.integration.test_shares import Stage as SharesStage
from tests.integration.test_shares import staged

OCTOBER, NOVEMBER, DECEMBER = 1_790_812_800_000, 1_793_491_200_000, 1_796_083_200_000
"""When these months of 2026 begin."""


def exports(stage: Stage, page: int = 1000) -> Exports:
    return Exports(stage.store.client, stage.events, Archived(stage.reader), page=page)


async def exported(
    stage: Stage,
    to: Path,
    since_ms: int = OCTOBER,
    until_ms: int = DECEMBER - 1,
    page: int = 1000,
    done: Callable[[int], None] = lambda _: None,
    **wanted: Any,
) -> list[Checked]:
    search = Search(since_ms=since_ms, until_ms=until_ms, **wanted)
    return [each async for each in exports(stage, page).run(search, to, done)]


async def came_in(stage: Stage, at_ms: int, **fields: Any) -> str:
    """Take a payment that came in at a time before now to the ledger."""
    stream = f"{at_ms}-0"
    await stage.redis.delete("hr:inbox:trustshare")
    await stage.redis.xadd("hr:inbox:trustshare", {"body": msgspec.json.encode(PAID | fields)}, id=stream)
    await stage.store.admit("ledger")
    await stage.store.settle("ledger", End.DONE, status=200)
    [id] = [id for id in await stage.listed() if received_ms(id) == at_ms]
    return id


def lines(path: Path) -> list[Any]:
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    return [msgspec.json.decode(line) for line in content.split(b"\n")[:-1]]


def content(each: Checked) -> bytes:
    return Path(each.file).read_bytes()


def ids(path: Path) -> list[str]:
    return [line["event"]["id"] for line in lines(path)[:-1] if "event" in line]


def verified(*paths: Path) -> list[Checked]:
    return list(verify(list(paths)))


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_an_export_has_all_of_an_event_from_redis_and_the_archive_a_month_a_file(
    redis_url: str,
    archive_url: str,
    tmp_path: Path,
    name: str,
) -> None:
    async def play(stage: Stage) -> None:
        first = [await came_in(stage, OCTOBER + n, **paid(n)) for n in range(3)]
        await stage.move()
        second = [await came_in(stage, NOVEMBER + n, **paid(10 + n)) for n in range(3)]
        await stage.move()
        third = await came_in(stage, DECEMBER - 1, **paid(20))
        await stage.replay("ledger", second[1])
        [october, november] = await exported(stage, tmp_path / "new" / name)
        suffix = name.removeprefix("out")
        assert october.file == str(tmp_path / "new" / f"out-2026-10{suffix}")
        assert ids(Path(october.file)) == first
        assert ids(Path(november.file)) == [*second, third]
        assert november.seal.previous == october.seal.digest
        *events, seal = lines(Path(november.file))
        assert seal == msgspec.to_builtins(november.seal)
        assert (seal["month"], seal["events"], seal["duplicates"]) == ("2026-11", 4, 0)
        assert (seal["since"], seal["until"]) == ("2026-11-01T00:00:00.000Z", "2026-11-30T23:59:59.999Z")
        archived, back, _, young = events
        for line, state in ((archived, "done"), (back, "waiting"), (young, "done")):
            kept = await stage.events.find(line["event"]["id"], [])
            assert line["event"] == msgspec.to_builtins(kept)
            assert line["payload"]["data"]["original"]["amount"] == PAID["amount"]
            [delivery] = line["deliveries"]
            assert (delivery["target"], delivery["state"]) == ("ledger", state)
            assert delivery["attempts"][0]["answer"] == ANSWER
        assert stat.S_IMODE(os.stat(november.file).st_mode) == 0o600
        assert len(os.listdir(tmp_path / "new")) == 2, "and nothing unfinished"
        assert verified(tmp_path / "new" / name) == [october, november]

    on_stage(redis_url, archive_url, play)


def test_what_is_encrypted_in_the_archive_is_exported_in_clear(
    redis_url: str, archive_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        now = await now_ms(stage.store.client)
        id = await stage.done("ledger")
        shown = await stage.events.payload(await found(stage, id))
        await stage.move()
        [*_, each] = await exported(stage, tmp_path / "out.jsonl", now, await now_ms(stage.store.client))
        [line, _] = lines(Path(each.file))
        assert isinstance(shown, EventRecord)
        assert line["payload"] == msgspec.json.decode(compose(shown, "cloudevents")[1])
        assert line["payload"]["data"]["original"] == PAID

    on_stage(redis_url, archive_url, play, keys=[Secret(base64.b64encode(bytes(32)).decode())])


def test_of_what_was_erased_an_export_has_what_is_left(
    redis_url: str, archive_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        now = await now_ms(stage.store.client)
        id = await stage.done("ledger")
        await stage.store.receive(PAID | {"description": "in other words"})
        await stage.store.admit("ledger")
        await stage.move()
        young = await stage.done("ledger", **paid(2))
        _, left = await erase(stage)
        assert not left.left
        months = await exported(stage, tmp_path / "out.jsonl", now, await now_ms(stage.store.client))
        written = b"".join(map(content, months))
        assert E_MAIL.encode() not in written
        assert ANSWER.encode() not in written
        events = [line for each in months for line in lines(Path(each.file))[:-1] if "event" in line]
        assert [line["event"]["id"] for line in events] == [id, young]
        assert [line["payload"]["data"]["original"] for line in events] == [{"erased": True}] * 2

    on_stage(redis_url, archive_url, play)


def test_what_only_a_dead_letter_on_the_disk_has_is_exported(redis_url: str, tmp_path: Path) -> None:
    async def play(stage: SharesStage) -> None:
        now = await now_ms(stage.client)
        id, waiting = await stage.filled.events(2, "down")
        await stage.filled.settle("down", End.DEAD, most=1)
        await stage.moves.dead_letters("down", hold=False)
        events = Events(stage.client, stage.file)
        for turn in ("both", "disk"):  # while Redis has the record still, and when it is gone
            search = Search(since_ms=now, until_ms=await now_ms(stage.client))
            to = tmp_path / f"{turn}.jsonl"
            months = [each async for each in Exports(stage.client, events).run(search, to)]
            first, second = [line for each in months for line in lines(Path(each.file))[:-1]]
            assert (first["event"]["id"], second["event"]["id"]) == (id, waiting)
            [delivery] = first["deliveries"]
            assert (delivery["state"], delivery["attempts"][0]["status"]) == ("dead", 500)
            assert first["payload"]["data"]["original"]["type"] == PAID["type"]
            assert await stage.finish() == 1

    staged(redis_url, tmp_path, play)


async def found(stage: Stage, id: str) -> EventView:
    kept = await stage.events.find(id, [])
    assert isinstance(kept, EventView)
    return kept


def test_a_digest_is_what_other_tools_find(redis_url: str, tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        await came_in(stage, NOVEMBER)
        [each] = await exported(stage, tmp_path / "out.jsonl")
        assert sha256(content(each)[:-67]).hexdigest() == each.seal.digest

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)


BODIES: dict[str, tuple[bytes, bool]] = {
    "numbers": (b'{"n":1e400,"m":0.10000000000000000000000001,"token":"t"}', True),
    "line breaks": (b'{\r\n "a": "x\\ny",\n "token": "t"}', False),
    "a separator of lines": ('{"a":"\u2028\u0085"}'.encode(), True),
    "no JSON": (b"amount=1&currency=GBP", False),
    "no UTF-8": (b'{"a":"\xff"}', False),
    "nothing": (b"", False),
}


@pytest.mark.parametrize(("body", "as_it_is"), BODIES.values(), ids=BODIES)
def test_the_provider_s_bytes_can_be_had_exactly(
    redis_url: str, tmp_path: Path, body: bytes, as_it_is: bool
) -> None:
    async def play(stage: Stage) -> None:
        id = await came_in(stage, NOVEMBER)
        await stage.redis.hset(f"hr:event:{id}", "body", body)
        [each] = await exported(stage, tmp_path / "out.jsonl")
        line = content(each).split(b"\n")[0]
        if as_it_is:
            assert b'"original":' + body in line
        else:
            assert base64.b64decode(msgspec.json.decode(line)["body_base64"]) == body
        assert ("body_base64" in msgspec.json.decode(line, type=dict[str, msgspec.Raw])) is not as_it_is
        assert verified(tmp_path / "out.jsonl") == [each]

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)


def test_a_search_narrows_an_export_and_stands_in_its_last_line(
    redis_url: str,
    archive_url: str,
    tmp_path: Path,
) -> None:
    async def play(stage: Stage) -> None:
        now = await now_ms(stage.store.client)
        wanted = [await stage.done("ledger", **paid(n, description="a flat")) for n in range(2)]
        await stage.done("ledger", **paid(2))
        await stage.move()
        wanted += [await stage.done("ledger", **paid(n, description="a flat")) for n in range(3, 5)]
        [copy] = await stage.store.receive(PAID | paid(4, description="a flat"))
        await stage.store.admit("ledger")
        end = await now_ms(stage.store.client)
        months = await exported(stage, tmp_path / "out.jsonl", now - 1, end, text="flat", state="done")
        assert [id for each in months for id in ids(Path(each.file))] == wanted
        assert {msgspec.json.encode(each.seal.search) for each in months} == {
            b'{"state":"done","text":"flat"}'
        }
        all_of_it = await exported(stage, tmp_path / "all.jsonl", now - 1, end, source="trustshare")
        assert sum(each.seal.events for each in all_of_it) == 5
        [line] = [line for each in all_of_it for line in lines(Path(each.file)) if "duplicate" in line]
        assert (line["duplicate"]["id"], line["duplicate"]["of"]) == (copy, wanted[-1])
        assert await exported(stage, tmp_path / "none.jsonl", now - 1, end, text="castle") == []
        assert not [name for name in os.listdir(tmp_path) if name.startswith("none")]

    on_stage(redis_url, archive_url, play)


def test_a_copy_is_a_line_of_its_own_with_its_body_if_that_is_another(
    redis_url: str,
    archive_url: str,
    tmp_path: Path,
) -> None:
    async def play(stage: Stage) -> None:
        now = await now_ms(stage.store.client)
        id = await stage.done("ledger")
        copies = await stage.store.receive(PAID, PAID | {"description": "in other words"})
        await stage.store.admit("ledger")
        for turn in ("redis", "archive"):
            end = await now_ms(stage.store.client)
            months = await exported(stage, tmp_path / f"{turn}.jsonl", now - 1, end)
            found = [line for each in months for line in lines(Path(each.file))[:-1]]
            assert found[0]["event"]["id"] == id
            assert (found[0]["event"]["copies"], found[0]["event"]["differing"]) == (2, 1)
            assert [line["duplicate"]["id"] for line in found[1:]] == copies
            assert [line["duplicate"]["identical"] for line in found[1:]] == [True, False]
            assert "body" not in found[1]
            assert found[2]["body"]["description"] == "in other words"
            assert sum(each.seal.duplicates for each in months) == 2
            await stage.move()
        assert len(verified(tmp_path / "redis.jsonl")) == len(verified(tmp_path / "archive.jsonl"))

    on_stage(redis_url, archive_url, play)


def test_events_that_move_while_they_are_exported_are_there_once(
    redis_url: str,
    archive_url: str,
    tmp_path: Path,
) -> None:
    async def play(stage: Stage) -> None:
        expected = [await came_in(stage, NOVEMBER + 997 * n, **paid(n)) for n in range(60)]
        listing = stage.events.events
        moves = iter(range(1000))

        async def moving(wanted: Search, limit: int, before: str | None = None) -> Any:
            found = await listing(wanted, limit, before)
            # What was just listed leaves Redis, and some of what left comes back, before it is read.
            step = next(moves)
            await stage.archiving.move(NOVEMBER + 997 * (step % 60))
            if archived := [view.id for view in found if view.id not in await in_redis(stage)]:
                await stage.replay("ledger", archived[0])
            return found

        stage.events.events = moving  # type: ignore[method-assign]
        [each] = await exported(stage, tmp_path / "out.jsonl", page=7)
        assert ids(Path(each.file)) == expected
        assert verified(tmp_path / "out.jsonl") == [each]

    on_stage(redis_url, archive_url, play)


async def in_redis(stage: Stage) -> set[str]:
    return {key.removeprefix("hr:event:") for key in await stage.keys() if key.startswith("hr:event:")}


def test_however_many_there_are_no_more_than_a_page_is_held(redis_url: str, tmp_path: Path) -> None:
    count, page = 2000, 200

    async def play(stage: Stage) -> None:
        now = await now_ms(stage.store.client)
        for n in range(0, count, 50):  # not all in one millisecond
            await stage.store.receive(*(PAID | {"paymentToken": f"pay-{n + m}"} for m in range(50)))
        await stage.store.admit("ledger")
        for _ in range(2):
            await stage.store.settle("ledger", End.DONE, status=200)
        for _ in range(3):
            await stage.archiving.move(await now_ms(stage.store.client) + 1)
        assert 0 < len(await in_redis(stage)) < count, "some are in Redis, some in the archive"
        most = 0

        def look(done: int) -> None:
            nonlocal most
            most = max(most, sum(isinstance(each, EventView) for each in gc.get_objects()))

        end = await now_ms(stage.store.client)
        months = await exported(stage, tmp_path / "out.jsonl.gz", now, end, page=page, done=look)
        assert sum(each.seal.events for each in months) == count
        assert 0 < most <= 4 * page
        assert verified(tmp_path / "out.jsonl.gz") == months

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)


def test_a_later_export_continues_the_month_before_and_replaces_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    async def play(stage: Stage) -> None:
        await came_in(stage, OCTOBER)
        await came_in(stage, NOVEMBER)
        to = tmp_path / "out.jsonl.gz"
        [october] = await exported(stage, to, OCTOBER, NOVEMBER - 1)
        [november] = await exported(stage, to, NOVEMBER, DECEMBER - 1)
        [december] = await exported(stage, to, DECEMBER, DECEMBER + 1)
        assert november.seal.previous == october.seal.digest
        assert december.seal.previous == november.seal.digest
        assert december.seal.events == 0, "an empty month is a link of the chain"
        assert verified(to) == [october, november, december]
        for since in (OCTOBER, DECEMBER):
            with pytest.raises(ExportFailed, match="is there already: remove it"):
                await exported(stage, to, since, DECEMBER + 5)
        os.unlink(november.file)
        with pytest.raises(ExportFailed, match="2026-12.* is there already: only a later one"):
            await exported(stage, to, NOVEMBER, DECEMBER - 1)
        os.unlink(december.file)
        os.truncate(october.file, len(content(october)) - 1)
        with pytest.raises(ExportFailed, match="2026-10.*cut off"):
            await exported(stage, to, NOVEMBER, DECEMBER - 1)
        with pytest.raises(ExportFailed, match="without a month"):
            await exported(stage, tmp_path / "out-2026-10.jsonl", NOVEMBER, DECEMBER - 1)

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)


def test_a_chain_has_no_gaps_and_one_search(redis_url: str, tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        await came_in(stage, NOVEMBER - 1)
        to = tmp_path / "out.jsonl"
        [october] = await exported(stage, to, OCTOBER, NOVEMBER - 1, source="trustshare")
        with pytest.raises(ExportFailed, match="by another search"):
            await exported(stage, to, NOVEMBER, DECEMBER - 1)
        with pytest.raises(ExportFailed, match="begins at 2026-11-01T00:00:00.001Z"):
            await exported(stage, to, NOVEMBER + 1, DECEMBER - 1, source="trustshare")
        os.unlink(october.file)
        await exported(stage, to, OCTOBER, NOVEMBER - 1001)
        assert "out-2026-10.jsonl" not in os.listdir(tmp_path), "nothing had come in by then"
        await exported(stage, to, OCTOBER + 1, NOVEMBER - 1)
        await exported(stage, to, NOVEMBER, NOVEMBER + 1)
        with pytest.raises(ExportFailed, match="ends at 2026-11-01T00:00:00.001Z"):
            await exported(stage, to, DECEMBER, DECEMBER + 1)
        assert len(verified(to)) == 2

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)


# -- tampering


class Chain:
    """Three months of files, as they were written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = [f"out-2026-{month}.jsonl" for month in (10, 11, 12)]
        self.content = {name: (folder / name).read_bytes() for name in self.names}

    def found(self, changed: dict[str, bytes | None]) -> bool:
        """Tell whether verification fails with these files instead (None: removed)."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            for file, content in (self.content | changed).items():
                if content is not None:
                    (Path(name) / file).write_bytes(content)
            try:
                verified(Path(name) / "out.jsonl")
            except ExportFailed as error:
                return "out-2026-1" in str(error)
            return False


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, redis_server: Any) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    with redis_server.client() as client:
        client.flushall()

    async def play(stage: Stage) -> None:
        for month in (OCTOBER, NOVEMBER, DECEMBER):
            for n in range(3):
                await came_in(stage, month + n, **paid(month + n))
        await exported(stage, folder / "out.jsonl", OCTOBER, DECEMBER + 10)

    on_stage(redis_server.url, f"sqlite:///{folder / 'archive.db'}", play)
    chain = Chain(folder)
    assert not chain.found({})
    return chain


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_byte_that_is_changed_added_or_removed_is_found(chain: Chain, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(chain.names))
    content = chain.content[name]
    # The last line is short, and has the most to find.
    first = data.draw(st.sampled_from([0, len(content) - len(content.splitlines()[-1]) - 1]))
    at = data.draw(st.integers(first, len(content) - 1))
    byte = data.draw(st.binary(max_size=1))
    change = data.draw(st.sampled_from(["replace", "insert"]))
    if change == "insert":
        changed = content[:at] + (byte or b"\n") + content[at:]
    else:
        changed = content[:at] + byte + content[at + 1 :]
    assert (changed == content) is not chain.found({name: changed})


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_line_that_is_removed_doubled_or_moved_is_found(chain: Chain, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(chain.names))
    lines = chain.content[name].splitlines(keepends=True)
    at, to = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    changed = list(lines)
    line = changed.pop(at)
    change = data.draw(st.sampled_from(["remove", "double", "move"]))
    if change == "double":
        changed.insert(at, line)
    if change != "remove":
        changed.insert(to, line)
    assert (changed == lines) is not chain.found({name: b"".join(changed)})


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_is_cut_off_is_found(chain: Chain, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(chain.names))
    content = chain.content[name]
    assert chain.found({name: content[: data.draw(st.integers(0, len(content) - 1))]})


def test_a_month_that_is_missing_exchanged_or_written_anew_is_found(chain: Chain) -> None:
    october, november, december = chain.names
    assert chain.found({october: None})
    assert chain.found({november: None})
    assert chain.found({october: chain.content[november], november: chain.content[october]})
    # A file with a digest that fits, but that is not the one which the next month covers.
    *_, seal = chain.content[november].splitlines()
    head = msgspec.json.encode(msgspec.json.decode(seal) | {"events": 0, "digest": ""})[:-2]
    empty = head + sha256(head).hexdigest().encode() + b'"}\n'
    assert chain.found({november: empty})
    assert not chain.found({november: empty, december: None}), "nothing covers the last one"


def test_the_first_that_is_wrong_is_named(chain: Chain, tmp_path: Path) -> None:
    october, november, _ = chain.names

    def wrong(name: str, content: bytes) -> str:
        for each, as_it_was in chain.content.items():
            (tmp_path / each).write_bytes(as_it_was)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ExportFailed) as failed:
            verified(tmp_path / "out.jsonl")
        return str(failed.value).removeprefix(f"{tmp_path}/")

    content = chain.content[november]
    first, second, third, seal = content.splitlines(keepends=True)
    assert wrong(november, first + b"odd\n" + third + seal) == f"{november}: line 2 is no event"
    assert wrong(november, first + third + second + seal).startswith(
        f"{november}: line 3 is not in its place"
    )
    assert wrong(november, first + third + seal) == f"{november}: has 2 events, and 3 were written"
    assert wrong(november, first + second) == (
        f"{november}: line 2, the last one, is no digest: the file is cut off or changed"
    )
    assert wrong(november, content.replace(b"GBP", b"EUR", 1)).startswith(
        f"{november}: its digest is another"
    )
    assert wrong(november, chain.content[october]) == f"{november}: line 1 is not in its place" + (
        ": each id is larger than the one before"
    )
    assert wrong(october, b"").startswith(f"{october}: line 1, the last one, is no digest")


def test_files_that_are_named_may_begin_with_any_month(chain: Chain, tmp_path: Path) -> None:
    october, november, december = (tmp_path / name for name in chain.names)
    for path in (november, december):
        path.write_bytes(chain.content[path.name])
    assert [each.file for each in verified(december, november)] == [str(november), str(december)]
    assert len(verified(december)) == 1, "the one before is beside it"
    with pytest.raises(ExportFailed, match="out-2026-10.jsonl, is missing"):
        verified(tmp_path / "out.jsonl")
    october.write_bytes(chain.content[october.name])
    november.unlink()
    with pytest.raises(ExportFailed, match="out-2026-11.jsonl, is missing"):
        verified(october, december)
    with pytest.raises(ExportFailed, match="No such file"):
        verified(november)
    with pytest.raises(ExportFailed, match="no month of it is there"):
        verified(tmp_path / "other.jsonl")


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_packed_file_that_is_changed_or_cut_off_is_found(
    chain: Chain, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = chain.content[chain.names[0]]
    packed = gzip.compress(content, mtime=0)
    at = data.draw(st.integers(0, len(packed) - 1))
    if data.draw(st.booleans()):
        changed = packed[:at]
    else:
        changed = packed[:at] + data.draw(st.binary(max_size=1)) + packed[at + 1 :]
    with tempfile.TemporaryDirectory(dir=chain.folder) as name:
        path = Path(name) / "out-2026-10.jsonl.gz"
        path.write_bytes(changed)
        try:
            verified(path)
        except ExportFailed:
            return
        # Some bits of the packing have no meaning.
        assert gzip.decompress(changed) == content


# -- faults


def test_a_kill_or_an_error_leaves_no_file_that_looks_whole(redis_url: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'archive.db'}"
    to = tmp_path / "out" / "out.jsonl.gz"

    def fail(_: int) -> None:
        raise ZeroDivisionError

    async def play(stage: Stage) -> None:
        await came_in(stage, NOVEMBER)
        killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, redis_url, url, to)
        assert await killed.wait() == -9
        assert os.listdir(to.parent) == ["out-2026-11.jsonl.gz.unfinished"]
        with pytest.raises(ExportFailed, match="no month of it is there"):
            verified(to)
        with pytest.raises(ZeroDivisionError):
            await exported(stage, to, done=fail)
        assert os.listdir(to.parent) == []
        [each] = await exported(stage, to)
        assert verified(to) == [each]

    on_stage(redis_url, url, play)


KILLED = """
import os, sys
from pathlib import Path
from tests.integration.archive import on_stage
from tests.integration.test_export import exported
async def play(stage):
    await exported(stage, Path(sys.argv[3]), done=lambda _: os.kill(os.getpid(), 9))
on_stage(sys.argv[1], sys.argv[2], play)
"""


@pytest.fixture
def config(redis_url: str, tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'archive.db'}"

    async def play(stage: Stage) -> None:
        for n in range(3):
            await came_in(stage, NOVEMBER - 2 + n, **paid(n))
        await stage.move()
        await stage.done("ledger", **paid(3))
        await stage.store.receive(b"no JSON")
        await stage.store.admit()

    on_stage(redis_url, url, play)
    return write(tmp_path, redis_url, f'[archive]\nurl = "{url}"\n' + SOURCES + TARGETS)


def test_the_command_exports_and_verifies(config: str, tmp_path: Path) -> None:
    to = tmp_path / "out" / "headrace.jsonl.gz"
    result = run(config, "export", "--since", "2026-10-01", "--to", str(to))
    assert result.exit_code == 0
    assert "in quarantine" in result.stderr
    head, october, november, *_ = result.stdout.splitlines()
    assert head.split() == ["FILE", "EVENTS", "DUPLICATES", "DIGEST"]
    assert october.split()[:3] == [str(tmp_path / "out" / "headrace-2026-10.jsonl.gz"), "2", "0"]
    assert int(november.split()[1]) >= 1
    files = as_json(config, "export", "--verify", str(to))["files"]
    assert files[1]["seal"]["previous"] == files[0]["seal"]["digest"]
    assert october.split()[3] == files[0]["seal"]["digest"]
    failed(run(config, "export", "--since", "2026-10-01", "--to", str(to)), 1, "is there already")
    shutil.move(files[0]["file"], tmp_path / "elsewhere")
    failed(run(config, "export", "--verify", str(to)), 1, "headrace-2026-10.jsonl.gz, is missing")
    narrow = tmp_path / "narrow.jsonl"
    ok(config, "export", "--since", "2026-10-01", "--payment", "pay-1", "--to", str(narrow))
    assert len(as_json(config, "export", "--verify", str(narrow))["files"][0]["seal"]["search"]) == 1
    none = tmp_path / "none.jsonl"
    assert "nothing is written" in ok(
        config, "export", "--since", "2026-10-01", "--payment", "pay-99", "--to", str(none)
    )


def test_progress_is_shown_on_a_terminal_and_nowhere_else(config: str, tmp_path: Path) -> None:
    to = tmp_path / "out.jsonl"
    shown = on_a_terminal(200, "export", "--config", config, "--since", "2026-10-01", "--to", str(to))
    assert re.search(r"events .*\b4/\?", shown)
    assert "━" not in ok(config, "export", "--verify", str(to))


def test_calls_that_make_no_sense_are_refused(config: str, tmp_path: Path) -> None:
    to = str(tmp_path / "out.jsonl")
    failed(run(config, "export", "--to", to), 2, "--since WHEN --to FILE")
    failed(run(config, "export", "--since", "1h"), 2, "--since WHEN --to FILE")
    failed(run(config, "export", to, "--since", "1h", "--to", to), 2)
    failed(run(config, "export", "--verify"), 2, "FILEs")
    failed(run(config, "export", "--verify", to, "--since", "1h"), 2, "no other options")
    failed(run(config, "export", "--since", "1h", "--until", "2h", "--to", to), 2, "ends before")
    failed(run(config, "export", "--since", "1h", "--source", "trustshar", "--to", to), 2, "trustshare")
    failed(run(config, "export", "--verify", to), 1, "no month of it")
    failed(run(config, "export", "--since", "2026-10-01", "--to", "/proc/none/out.jsonl"), 1, "/proc/none")


def test_a_disk_that_is_full_is_said_and_leaves_nothing(redis_url: str, tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        await came_in(stage, NOVEMBER - 1)

    on_stage(redis_url, f"sqlite:///{tmp_path / 'archive.db'}", play)
    config = write(tmp_path, redis_url)  # no archive, whose files cannot grow either
    to = tmp_path / "out" / "out.jsonl"
    done = subprocess.run(
        [HEADRACE, "export", "--config", config, "--since", "2026-10-01", "--to", to],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == f"headrace: {to.parent}/out-2026-10.jsonl: File too large"
    assert os.listdir(to.parent) == []


def test_a_month_is_named_in_utc() -> None:
    assert [label(month_at(ms)) for ms in (NOVEMBER - 1, NOVEMBER)] == ["2026-10", "2026-11"]
