"""`celery -A workers`: a worker, `inspect` and `control` as for any Celery application."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from redis import Redis

from tests.acceptance.gateway import HEADRACE, SOURCES, Gateway, clean_env, target
from tests.acceptance.sink import Delivery, Sink
from tests.faults.watched import body
from tests.waiting import wait_for

CELERY = str(Path(sys.executable).parent / "celery")


class ByCelery(Gateway):
    """A gateway with an ingress of its own, whose workers Celery's command line starts."""

    def __init__(self, folder: Path, targets: str, redis_url: str) -> None:
        super().__init__(folder, targets, redis_url=redis_url)
        self.redis = Redis.from_url(redis_url)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> Self:
        self.process = self._run([HEADRACE, "ingress", "--config", str(self.config)])
        wait_for(self.ready, "the ingress", within_s=30)
        return self

    def stop(self) -> int:
        for process in self.started:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            process.wait(20)
        self.redis.close()
        return 0

    def worker(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it is ready."""
        worker = self._run([CELERY, "-A", "workers", "worker", *options])
        wait_for(
            lambda: worker.pid in {line["pid"] for line in self.lines("worker ready")},
            "the worker",
            within_s=60,
        )
        return worker

    def celery(self, *arguments: str) -> Any:
        """Run a command that asks all workers; return what each answered."""
        argv = [CELERY, "-A", "workers", *arguments, "--json", "--timeout", "10"]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, env=celery_env(self.config), check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def control(self, *arguments: str) -> None:
        """Run a command that nobody answers."""
        argv = [CELERY, "-A", "workers", "control", *arguments]
        subprocess.run(argv, capture_output=True, timeout=60, env=celery_env(self.config), check=False)

    def _run(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, env=celery_env(self.config))
        self.started.append(process)
        return process


def celery_env(config: Path) -> dict[str, str]:
    return clean_env() | {"HEADRACE_CONFIG": str(config), "HEADRACE_LOG_FORMAT": "json"}


def celery(config: Path, *arguments: str) -> tuple[int, str]:
    """Run Celery's command line to its end; return its exit code and what it said on standard error."""
    argv = [CELERY, "-A", "workers", *arguments]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, env=celery_env(config), check=False
    )
    return done.returncode, done.stderr


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Path:
    path = tmp_path / "headrace.toml"
    path.write_text(f'redis.url = "{redis_url}"\n{SOURCES}')
    return path


@pytest.fixture
def gateway(folder: Path, sink: Sink, redis_url: str) -> Iterator[ByCelery]:
    with ByCelery(folder, target("all", sink.port, timeout='"30s"'), redis_url) as gateway:
        yield gateway


def finished(gateway: ByCelery) -> int:
    return int(gateway.redis.zcard("hr:finished"))


@pytest.mark.parametrize(
    "pool", [[], ["-P", "threads"], ["-P", "prefork"]], ids=["default", "threads", "prefork"]
)
def test_a_worker_that_celery_starts_delivers_and_is_inspected(
    pool: list[str], gateway: ByCelery, sink: Sink
) -> None:
    """Celery takes `-P prefork` for no option, since it is its default: the application's pool runs."""
    worker = gateway.worker("-n", "one@%h", *pool)
    id = gateway.post("trustshare", body()).id
    [delivery] = sink.wait_for("all", 1)
    assert delivery.id == id
    [(name, pong)] = gateway.celery("inspect", "ping").items()
    assert (name.partition("@")[0], pong) == ("one", {"ok": "pong"})
    assert gateway.celery("inspect", "active") == {name: []}
    [stats] = gateway.celery("inspect", "stats").values()
    assert stats["pid"] == worker.pid
    assert stats["total"]["headrace.admit"] >= 1
    kind = "thread" if "threads" in pool else "solo"
    assert f"celery.concurrency.{kind}:TaskPool" in stats["pool"]["implementation"]


def test_control_shutdown_ends_each_worker_orderly_with_nothing_in_hand(
    gateway: ByCelery, sink: Sink
) -> None:
    arrived = threading.Event()

    def hang_once(_: Delivery, before: int) -> int:
        if before == 0:
            arrived.wait(30)
        return 200

    sink.answers["all"] = hang_once
    workers = [gateway.worker("-n", f"{name}@%h") for name in ("one", "two")]
    id = gateway.post("trustshare", body()).id
    sink.wait_for("all", 1, within_s=60)
    gateway.control("shutdown")
    assert [worker.wait(30) for worker in workers] == [0, 0]
    arrived.set()
    assert gateway.redis.zcard("hr:leased:all") == 0
    assert gateway.redis.zcard("hr:due:all") == 1, "it was handed back"
    assert gateway.redis.hget(f"hr:event:{id}", "failed:all") is None
    assert sum(line["handed_back"] for line in gateway.lines("drained")) == 1
    gateway.worker()
    wait_for(lambda: finished(gateway) == 1, "the next worker to deliver it", within_s=30)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["-P", "processes"], "a worker runs in Celery's pools solo and threads, and in no other"),
        (["-Q", "other"], "a worker does not take --queues"),
        (["-X", "headrace"], "a worker does not take --exclude-queues"),
        (["-B"], "a worker does not take --beat"),
        (["--autoscale", "3,1"], "a worker does not take --autoscale"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_option_that_does_not_do_is_refused_with_one_line(
    options: list[str], why: str, config: Path
) -> None:
    code, said = celery(config, "worker", *options)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"headrace: {why}")


def test_a_configuration_that_is_wrong_is_refused_with_one_line(config: Path) -> None:
    config.write_text("nonsense = 1\n")
    for arguments in (["worker"], ["inspect", "ping"]):
        code, said = celery(config, *arguments)
        assert (code, said.count("\n")) == (2, 1)
        assert said.startswith("headrace: ")
        assert "nonsense" in said


def test_a_changed_configuration_is_taken_up_at_a_signal(gateway: ByCelery, sink: Sink) -> None:
    worker = gateway.worker()
    gateway.config.write_text(gateway.config.read_text() + target("second", sink.port))
    os.kill(worker.pid, signal.SIGHUP)
    wait_for(
        lambda: worker.pid in {line["pid"] for line in gateway.lines("configuration reloaded")}, "the reload"
    )
    gateway.post("trustshare", body())
    sink.wait_for("second", 1)
    assert worker.poll() is None


def test_asking_and_killing_workers_again_and_again_leaves_no_more_in_redis(gateway: ByCelery) -> None:
    """Kombu's replies and the queues of workers that are gone go away, or are the same for the next of a name."""

    def left() -> set[Any]:
        found: set[Any] = set()
        for key in gateway.redis.scan_iter():
            if not key.startswith(b"hr:"):
                found |= {key, *(gateway.redis.smembers(key) if gateway.redis.type(key) == b"set" else ())}
        return found

    def once() -> None:
        worker = gateway.worker("-n", "one@%h")
        gateway.celery("inspect", "ping")
        worker.kill()
        worker.wait(10)

    once()
    before = left()
    once()
    once()
    assert left() <= before
