"""Redis dies, fills up, stops writing, is busy loading: 503 meanwhile, and everything mends by itself."""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from tests.acceptance.gateway import HEADRACE, SOURCES, clean_env, free_port, target
from tests.acceptance.sink import Sink
from tests.conftest import RedisServer
from tests.faults.invariants import Record
from tests.faults.proxy import Proxy
from tests.faults.watched import Providers, Watched, body
from tests.waiting import wait_for


@pytest.mark.case(n=10)
@pytest.mark.parametrize("fsync", ["always", "everysec", "no"])
def test_redis_is_killed_and_restarted_under_load(fsync: str, folder: Path, sink: Sink) -> None:
    server = RedisServer(folder, "--appendfsync", fsync)
    server.start()
    gateway = Watched(
        folder, target("all", sink.port, timeout='"2s"'), sink, redis_url=server.url, redis=server.client()
    )
    try:
        with gateway:
            with Providers(gateway) as load:
                for _ in range(2):
                    before = load.accepted
                    wait_for(lambda before=before: load.accepted > before + 50, "events to come in")  # type: ignore[misc]
                    server.kill()
                    refused = load.refused["503"]
                    wait_for(lambda refused=refused: load.refused["503"] > refused + 3, "503 meanwhile")  # type: ignore[misc]
                    taken = load.accepted
                    time.sleep(0.5)
                    assert load.accepted == taken, "nothing is taken where nothing can be kept"
                    server.start()
                before = load.accepted
                wait_for(lambda: load.accepted > before + 50, "events to come in again")
            assert load.longest_s < 5, "a provider has its answer in bounded time"
            assert set(load.refused) == {"503"}, "and no connection of its was dropped"
    finally:
        server.kill()


@pytest.mark.case(n=10)
def test_a_log_that_power_loss_cut_in_the_middle_of_a_record_is_worked_on_with(
    folder: Path, sink: Sink
) -> None:
    """What stands before the cut is kept whole; what comes after is gone, and taken when it is sent again.

    With `always` no cut can lie before an acknowledged event: its 200 waits for the fsync. With the other
    modes it can, and this is what it costs.
    """
    server = RedisServer(folder, "--appendfsync", "no")
    server.start()
    gateway = Watched(folder, target("all", sink.port), sink, redis_url=server.url, redis=server.client())
    files = sorted(folder.rglob("*.incr.aof")) or [folder / "appendonly.aof"]
    try:
        gateway.start()
        bodies = [body() for _ in range(40)]
        early = [gateway.post("trustshare", each).id for each in bodies[:20]]
        wait_for(lambda: set(sink.counts("all")) == set(early), "the first half to be delivered")
        gateway.drain()
        late = [gateway.post("trustshare", each).id for each in bodies[20:30]]
        # Redis writes, if it does not fsync, before it answers: what a record of the log begins with comes next.
        cut = files[0].stat().st_size + len("*1\r\n$")
        late += [gateway.post("trustshare", each).id for each in bodies[30:]]
        gateway.stop()
        server.kill()
        with open(files[0], "rb+") as log:
            log.truncate(cut)
        server.start()
        gateway = Watched(folder, target("all", sink.port), sink, redis_url=server.url, redis=server.client())
        gateway.everyone.clear()
        for delivery in sink.of("all"):
            if gateway.redis.hget(f"hr:event:{delivery.id}", "end:all") is None:
                sink.forget(delivery)  # as Redis has: it came, and nobody knows
        with gateway:
            gateway.drain()
            kept = Record(gateway.redis).events.keys()
            assert set(early) <= kept
            assert kept & {*late} == {*late[:10]}, "the cut lies amid the second half"
            again = [gateway.post("trustshare", each).id for each in bodies]
            gateway.drain()
            record = Record(gateway.redis)
            assert len(record.events) == 40, "each body is there again, once"
            assert {record.duplicates.get(id) for id in again[:20]} == {*early}
            gateway.everyone.append("all")
    finally:
        server.kill()


def full(redis: Redis) -> None:
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"]) // 2)


def read_only(redis: Redis) -> None:
    redis.replicaof("127.0.0.1", "1")


def not_saving(redis: Redis) -> None:
    redis.config_set("save", "3600 1")
    redis.bgsave()
    wait_for(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err", "a save to fail")


def alone(redis: Redis) -> None:
    redis.config_set("min-replicas-to-write", 1)


def mend(redis: Redis) -> None:
    redis.config_set("maxmemory", "512mb")
    redis.replicaof("NO", "ONE")
    redis.config_set("save", "")
    redis.config_set("min-replicas-to-write", 0)


def refuses(gateway: Watched, word: str) -> None:
    """Until it is mended: 503 in bounded time, never 200, and `/readyz` says why in a word."""
    for number in range(5):
        started = time.monotonic()
        answer = gateway.post("trustshare", body(), once=True)
        assert answer.status == 503, number
        assert answer.headers["retry-after"].isdecimal()
        assert time.monotonic() - started < 9
    # It answers from the last look, and one comes every second.
    wait_for(lambda: not gateway.ready(), "a look to find it", within_s=30)
    ready = gateway.request("GET", "/readyz", timeout_s=5)
    assert (ready.status, json.loads(ready.body)) == (503, {"status": "not ready", "reason": word})
    assert gateway.request("GET", "/livez", timeout_s=5).status == 200


@pytest.mark.case(n=11)
def test_a_redis_that_takes_no_writes_is_503_and_mends_by_itself(folder: Path, sink: Sink) -> None:
    server = RedisServer(folder)
    # A save renames its file to this, and cannot: that is how it fails for root too.
    (folder / "dump.rdb").mkdir()
    server.start()
    cases: list[tuple[Callable[[Redis], None], str]] = [
        (full, "redis-full"),
        (read_only, "redis-unfit"),
        (not_saving, "redis-unfit"),
        (alone, "redis-unfit"),
    ]
    targets = target("all", sink.port) + target(
        "fails", sink.port, retry="{ initial = '0.5s', attempts = 50 }"
    )
    sink.answers["fails"] = lambda *_: 500
    gateway = Watched(folder, targets, sink, redis_url=server.url, redis=server.client())
    try:
        with gateway:
            for number, (break_it, word) in enumerate(cases):
                # One that waits for a target at this moment, so that the workers have something to write.
                gateway.post("trustshare", body())
                sink.wait_for("fails", 1)
                break_it(gateway.redis)
                refuses(gateway, word)
                mend(gateway.redis)
                wait_for(gateway.ready, f"to be ready after {break_it.__name__}", within_s=30)
                id = gateway.post("trustshare", body()).id
                wait_for(lambda id=id: id in sink.counts("all"), "a delivery", within_s=30)  # type: ignore[misc]
                assert len(sink.counts("all")) == 2 * (number + 1)
            sink.answers["fails"] = lambda *_: 200
    finally:
        server.kill()


@pytest.mark.case(n=11)
def test_a_redis_that_is_loading_is_503_until_it_has(folder: Path, sink: Sink) -> None:
    server = RedisServer(folder)
    server.start()
    gateway = Watched(folder, target("all", sink.port), sink, redis_url=server.url, redis=server.client())
    try:
        with gateway:
            kept = gateway.post("trustshare", body()).id
            sink.wait_for("all", 1)
            gateway.drain()
            pipe = gateway.redis.pipeline(transaction=False)
            for number in range(30_000):
                pipe.set(f"ballast:{number}", "x")
            pipe.execute()
            server.kill()
            server.argv += ["--key-load-delay", "300"]
            starting = threading.Thread(target=server.start)
            starting.start()
            refusals = 0
            # Those that start meanwhile wait for it, as all others do: it is not unfit, it is not ready.
            argv = [[HEADRACE, kind, "--config", str(gateway.config)] for kind in ("ingress", "worker")]
            argv[0] += ["--port", str(free_port())]
            with open(gateway.log, "ab") as log:
                fresh = [subprocess.Popen(each, stdout=log, stderr=log, env=gateway.env()) for each in argv]
            while starting.is_alive():
                answer = gateway.post("trustshare", body(), once=True)
                refusals += answer.status == 503
                time.sleep(0.1)

            def reasons() -> list[str]:
                return [line["reason"] for line in gateway.lines("refusing")]

            assert refusals > 3
            wait_for(lambda: "Redis is loading its data" in reasons(), "it to be logged")
            assert not any("appendonly" in reason for reason in reasons()), "what it is not, while it loads"
            wait_for(gateway.ready, "to be ready", within_s=30)
            ended = [each.poll() for each in fresh]
            for each in fresh:
                each.terminate()
                each.wait(15)
            assert ended == [None, None]
            assert gateway.lines("child cannot run") == []
            assert gateway.redis.hget(f"hr:event:{kept}", "end:all") == b"done"
    finally:
        server.kill()


UNFIT = {
    "allkeys-lru": {"maxmemory-policy": "allkeys-lru"},
    "maxmemory is not set": {"maxmemory": "0"},
    "appendonly is off": {"appendonly": "no"},
    "is too old": {},
}


@pytest.mark.case(n=12)
@pytest.mark.parametrize("word", UNFIT)
def test_neither_process_starts_with_a_redis_that_is_unfit(word: str, folder: Path) -> None:
    server = RedisServer(folder)
    server.start()
    proxy = Proxy(server.socket)
    try:
        with server.client() as redis:
            version = str(redis.info("server")["redis_version"]).encode()
            for key, value in UNFIT[word].items():
                redis.config_set(key, value)
        if not UNFIT[word]:
            proxy.rewrite = (b"redis_version:" + version, b"redis_version:5" + version[1:])
        config = folder / "headrace.toml"
        config.write_text(f'redis.url = "{proxy.url}"\ningress.port = {free_port()}\n{SOURCES}')
        for command in ("ingress", "worker"):
            argv = [HEADRACE, command, "--config", str(config)]
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=30, env=clean_env(), check=False
            )
            [line] = [line for line in done.stderr.splitlines() if line.startswith("headrace: ")]
            assert (done.returncode, word in line) == (2, True), done.stderr
    finally:
        proxy.close()
        server.kill()
