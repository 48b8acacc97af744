"""The archive away, hanging, full, broken, and workers killed while they move events there: nothing is lost."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import pytest
import sqlalchemy as sql
from redis import Redis

from shared.archive.versions import VERSION_TABLE
from shared.process.supervisor import EXIT_CONFIG
from tests.acceptance.gateway import SOURCES, target
from tests.acceptance.sink import Sink
from tests.faults.invariants import Record, archived
from tests.faults.watched import Providers, Watched, body
from tests.packed import finished
from tests.postgresql import PostgreSQL
from tests.waiting import wait_for

AWAY = "nothing is archived: what is finished stays in Redis"
HOT = 'retention.hot = "0.1s"\n'


def watched(folder: Path, sink: Sink, url: str, *, workers: int = 1) -> Watched:
    sources = f'{HOT}archive.url = "{url}"\n{SOURCES}'
    gateway = Watched(folder, target("all", sink.port), sink, workers=workers, sources=sources)
    gateway.archive_url = url
    return gateway


def moved(redis: Redis) -> bool:
    """Tell whether all that has finished is in the archive."""
    return not finished(redis) and not redis.zcard("hr:duplicates")


def said(gateway: Watched) -> str:
    """Return what `headrace check` warns of."""
    return "\n".join(gateway.json("check")["warnings"])


def test_workers_that_are_killed_while_they_move_events_lose_none(
    folder: Path, sink: Sink, archive_url: str
) -> None:
    with watched(folder, sink, archive_url, workers=2) as gateway:
        with Providers(gateway, pause_s=0.02) as load:
            for _ in range(5):
                before = len(archived(archive_url)[0])
                wait_for(lambda before=before: len(archived(archive_url)[0]) > before + 20, "events to move")  # type: ignore[misc]
                gateway.kill("workers")
        gateway.drain()
        wait_for(lambda: moved(gateway.redis), "all to be archived", within_s=100)
        ids = {receipt.id for receipt in gateway.receipts}
        assert load.accepted > 100
        events, copies = archived(archive_url)
        assert {event.id for event in events} | {copy.id for copy in copies} == ids


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_while_postgresql_is_away_events_go_on_and_it_is_caught_up_with(
    folder: Path, sink: Sink, postgresql_server: PostgreSQL, postgresql_url: str, how: str
) -> None:
    with watched(folder, sink, postgresql_url) as gateway:
        gateway.drain_within_s = 120
        first = gateway.post("trustshare", body()).id
        wait_for(lambda: first in Record(gateway.redis, postgresql_url).archived, "the first to be archived")
        if how == "killed":
            postgresql_server.kill()
        else:
            postgresql_server.pause()
        # Few: all that comes in meanwhile is to be moved afterwards.
        with Providers(gateway, count=1, pause_s=0.1) as load:
            wait_for(lambda: load.accepted > 20, "events to come in")
            wait_for(lambda: len(sink.counts("all")) > 20, "events to go out")
            wait_for(lambda: gateway.lines(AWAY), "a word of it", within_s=90)
            wait_for(lambda: "nothing is archived since" in said(gateway), "a warning", within_s=30)
            ready = {"status": "ready", "archive": "behind"}
            wait_for(
                lambda: json.loads(gateway.request("GET", "/readyz").body) == ready, "readiness to say it"
            )
            assert not load.refused
        assert finished(gateway.redis), "they stay in Redis"
        postgresql_server.start()
        gateway.drain()
        wait_for(lambda: moved(gateway.redis), "all to be archived", within_s=100)
        wait_for(lambda: "nothing is archived" not in said(gateway), "no warning any more")
        assert gateway.lines("the archive is back")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("how", ["full", "no file"])
def test_while_a_sqlite_file_cannot_be_written_events_go_on(
    folder: Path, sink: Sink, small_disk: Path, how: str
) -> None:
    url = f"sqlite:///{small_disk / 'archive.db'}"
    with watched(folder, sink, url) as gateway:
        gateway.post("trustshare", body())
        wait_for(lambda: len(archived(url)[0]) == 1, "the first to be archived")
        ballast, kept = small_disk / "ballast", folder / "kept"
        if how == "full":
            with suppress(OSError), open(ballast, "wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
        else:
            kept.mkdir()
            for each in small_disk.glob("archive.db*"):
                shutil.move(each, kept)
            (small_disk / "archive.db").mkdir()
        # Each of them is large: some pages that are free already would hold a few small ones.
        late = [gateway.post("trustshare", body(more=token_hex(20_000))).id for _ in range(10)]
        wait_for(lambda: set(late) <= set(sink.counts("all")), "events to go out")
        wait_for(lambda: gateway.lines(AWAY), "a word of it")
        assert set(late) & set(finished(gateway.redis)), "they stay in Redis"
        if how == "full":
            ballast.unlink()
        else:
            (small_disk / "archive.db").rmdir()
            for each in kept.iterdir():
                shutil.move(each, small_disk)
        wait_for(lambda: moved(gateway.redis), "all to be archived", within_s=100)
        assert len(archived(url)[0]) == 11


def test_an_archive_of_a_later_version_ends_a_worker_with_one_line(
    folder: Path, sink: Sink, archive_url: str
) -> None:
    with watched(folder, sink, archive_url) as gateway:
        gateway.post("trustshare", body())
        wait_for(lambda: archived(archive_url)[0], "the first to be archived")
        engine = sql.create_engine(archive_url)
        with engine.begin() as connection:
            version = sql.table(VERSION_TABLE, sql.column("version_num"))
            connection.execute(sql.update(version).values(version_num="9999"))
        engine.dispose()
        for kind in ("worker", "check"):
            done = gateway.command(kind)
            assert done.returncode == EXIT_CONFIG, done.stderr
            [line] = [line for line in done.stderr.splitlines() if "later version" in line]
            assert line.partition("headrace: ")[2]
            assert "later version of Headrace (9999; this one knows" in line
            assert "Traceback" not in done.stderr
        late = gateway.post("trustshare", body()).id
        wait_for(lambda: late in {event.id for event in archived(archive_url)[0]}, "what runs goes on")
