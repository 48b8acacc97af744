"""Case 27: old and new configurations side by side, as in a rolling deploy."""

import subprocess
from pathlib import Path

import pytest

from shared.process.supervisor import EXIT_CONFIG
from shared.store.layout import LAYOUT
from tests.acceptance.gateway import HEADRACE, SOURCES, clean_env, free_port, target
from tests.acceptance.sink import Sink
from tests.conftest import RedisServer
from tests.faults.invariants import members
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

RETRY = "{ initial = '2s', factor = 1.0, max = '2s', attempts = 5, jitter = 0.0 }"
PATIENT = "{ failures = 1000, initial = '1s', max = '1s' }"


@pytest.mark.case(n=27)
def test_with_mixed_configurations_each_leaves_alone_what_it_does_not_know(folder: Path, sink: Sink) -> None:
    old, both, new = (
        target(name, sink.port, retry=RETRY, breaker=PATIENT) for name in ("old", "both", "new")
    )
    sink.answers["old"] = lambda _, before: 500 if before == 0 else 200
    with Watched(folder, old + both, sink) as gateway:
        gateway.everyone = ["both"]
        newer = folder / "newer.toml"
        newer.write_text(gateway.config.read_text().replace(old, new))
        argv = [HEADRACE, "worker", "--config", str(newer)]
        with open(gateway.log, "ab") as log:
            worker = subprocess.Popen(argv, stdout=log, stderr=log, env=gateway.env())
        try:
            wait_for(lambda: gateway.redis.zscore("hr:targets", "new"), "the newer worker to be known")
            ids = {gateway.post("trustshare", body()).id for _ in range(40)}
            gateway.drain()
            # And each sweeps for what only it knows, however long the other has had the turn.
            wait_for(lambda: len(gateway.redis.keys("hr:sweeper:*")) == 2, "both to sweep")
        finally:
            worker.terminate()
            worker.wait(15)
        assert sink.counts("both").keys() == ids
        # Each event goes where the configuration says by which it was admitted, and nowhere is one buried.
        one_or_other = [sink.counts("old").keys(), sink.counts("new").keys()]
        assert one_or_other[0] | one_or_other[1] == ids
        assert not one_or_other[0] & one_or_other[1]
        assert gateway.lines("buried") == []
        assert not gateway.redis.keys("hr:dead:*")
        assert set(members(gateway.redis, "hr:targets")) == {"old", "both", "new"}
        # What the newer one leaves alone is not forgotten: it waits for one that knows it.
        gateway.redis.zadd("hr:due:gone", {ids.pop(): 1})
        gateway.post("trustshare", body())
        sink.wait_for("both", 41)
        assert gateway.redis.zcard("hr:due:gone") == 1
        gateway.redis.delete("hr:due:gone")


@pytest.mark.case(n=58)
def test_once_a_later_version_runs_what_runs_goes_on_and_no_process_of_this_one_begins(
    folder: Path, sink: Sink
) -> None:
    with Watched(folder, target("one", sink.port), sink) as gateway:
        gateway.post("trustshare", body())
        sink.wait_for("one", 1)
        assert gateway.redis.get("hr:layout") == str(LAYOUT).encode()
        gateway.redis.set("hr:layout", LAYOUT + 1)
        # After Redis was away it is looked at anew; but that is no start.
        before = len(gateway.lines("accepting"))
        gateway.redis.client_pause(2500)
        wait_for(lambda: len(gateway.lines("accepting")) > before, "ingress to have looked anew")
        gateway.post("trustshare", body())
        sink.wait_for("one", 2)
        other = folder / "other.toml"
        port = f"ingress.port = {gateway.port}"
        other.write_text(gateway.config.read_text().replace(port, f"ingress.port = {free_port()}"))
        for kind in ("ingress", "worker"):
            argv = [HEADRACE, kind, "--config", str(other)]
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=60, env=gateway.env(), check=False
            )
            assert done.returncode == EXIT_CONFIG, done.stderr
            assert f"Redis has records of layout {LAYOUT + 1}" in done.stderr
        gateway.post("trustshare", body())
        sink.wait_for("one", 3)
        assert gateway.redis.get("hr:layout") == str(LAYOUT + 1).encode()


@pytest.mark.case(n=58)
def test_a_worker_that_began_while_redis_was_away_ends_once_it_finds_a_later_version(folder: Path) -> None:
    server = RedisServer(folder)
    server.start()
    with server.client() as redis:
        redis.set("hr:layout", LAYOUT + 1)
    server.kill()
    config = folder / "headrace.toml"
    config.write_text(f'[redis]\nurl = "{server.url}"\n{SOURCES}')
    log = folder / "log"
    with open(log, "wb") as output:
        worker = subprocess.Popen(
            [HEADRACE, "worker", "--config", str(config)], stdout=output, stderr=output, env=clean_env()
        )
    try:
        wait_for(lambda: b"Redis is away" in log.read_bytes(), "the worker to have begun")
        server.start()
        assert worker.wait(60) == EXIT_CONFIG, "it is not started again"
        assert f"headrace: Redis has records of layout {LAYOUT + 1}" in log.read_text()
    finally:
        worker.kill()
        worker.wait()
        server.kill()
