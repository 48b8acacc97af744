"""A log that cannot be written ends nothing and delays nothing; a background task that ends ends its process."""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tests.acceptance.gateway import HEADRACE, REQUESTS, TRUUST_TOKEN, Gateway, children_of, target
from tests.acceptance.sink import Sink
from tests.faults.watched import INSIDE
from tests.waiting import wait_for

KINDS = ("ingress", "workers", "redis-server")


def body(token: str) -> bytes:
    return b'{"type":"dispute_raised","from":"a","to":"b","token":"%s"}' % token.encode()


class Unheard(Gateway):
    """A gateway whose standard error is what the test gives it."""

    def __init__(self, folder: Path, sink: Sink, stderr: int, **env: str) -> None:
        super().__init__(folder, target("all", sink.port))
        self.stderr = stderr
        self.sink = sink
        self.more_env = env

    def env(self) -> dict[str, str]:
        return super().env() | self.more_env

    def start(self) -> Self:
        argv = [HEADRACE, "up", "--config", str(self.config)]
        self.process = subprocess.Popen(
            argv,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self.stderr,
            stderr=self.stderr,
            env=self.env(),
        )
        wait_for(self.ready, "the gateway to be ready", within_s=60)
        return self

    def delivers(self, token: str) -> None:
        """An event is taken and delivered."""
        id = self.post("trustshare", body(token)).id
        wait_for(lambda: id in self.sink.counts("all"), f"the delivery of {token}", within_s=60)

    def survives_kills(self, kinds: Sequence[str] = KINDS) -> None:
        """Each process that is killed is started again, and all is well again."""
        for kind in kinds:
            killed = self.kill(kind)
            assert killed
            wait_for(lambda: self.children(kind) not in ([], [killed]), f"a new {kind}", within_s=60)  # noqa: B023
            wait_for(self.ready, "the gateway to be ready", within_s=60)
            self.delivers(f"after {kind}")
        # Redis was away, and the worker's sweep goes round again.
        [*leases] = self.redis.keys("hr:sweeper:*")
        self.redis.delete("-", *leases)
        wait_for(lambda: self.redis.keys("hr:sweeper:*"), "the sweep", within_s=60)


@pytest.fixture
def full() -> Iterator[int]:
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


@pytest.mark.case(n=43)
def test_with_no_room_for_its_log_all_goes_on(folder: Path, sink: Sink, full: int) -> None:
    with Unheard(folder, sink, full) as gateway:
        gateway.delivers("first")
        gateway.survives_kills()
        assert gateway.process is not None
        assert gateway.process.poll() is None


@pytest.mark.case(n=43)
def test_with_nobody_at_the_other_end_of_its_log_all_goes_on(folder: Path, sink: Sink) -> None:
    reader, writer = os.pipe()
    with Unheard(folder, sink, writer) as gateway:
        os.close(reader)
        gateway.delivers("first")
        gateway.survives_kills()
    os.close(writer)


@pytest.mark.case(n=43)
def test_a_reader_of_the_log_that_stalls_delays_nothing_and_is_told_how_many_lines_it_missed(
    folder: Path, sink: Sink
) -> None:
    reader, writer = os.pipe()
    with Unheard(folder, sink, writer) as gateway:
        # More than the pipe and the buffers of ingress and worker take: 5,000 lines of each, and 5,000 of ingress.
        refuse(gateway.port, 5000)
        before = deliver(gateway, 5000)
        assert gateway.request("GET", "/livez", timeout_s=30).status == 200
        wait_for(lambda: before <= sink.counts("all").keys(), "all deliveries", within_s=120)
        # Ingress lives: it knows what it dropped.
        gateway.survives_kills(["workers", "redis-server"])

        # And now somebody reads.
        said = bytearray()
        reading = threading.Thread(target=read_all, args=(reader, said))
        reading.start()
        gateway.delivers("heard")
        wait_for(lambda: b"log lines dropped" in said, "the count of what was dropped", within_s=60)
    os.close(writer)
    reading.join(60)
    os.close(reader)
    lines = [json.loads(line) for line in said.splitlines()]
    dropped = [line["lines"] for line in lines if line["event"] == "log lines dropped"]
    assert sum(dropped) > 0


@pytest.mark.case(n=43)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_whose_log_nobody_reads_ends_when_it_is_told_to(
    number: signal.Signals, folder: Path, sink: Sink
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with Unheard(folder, sink, writer) as gateway:
        refuse(gateway.port, 1000)
        assert gateway.process is not None
        children = [gateway.children(kind)[0] for kind in KINDS]
        gateway.process.send_signal(number)
        assert gateway.process.wait(60) == 0
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    os.close(reader)
    os.close(writer)


@pytest.mark.case(n=43)
@pytest.mark.parametrize(
    ("task", "kind"), [("sweep", "workers"), ("watch", "workers"), ("commit", "ingress")]
)
def test_a_process_that_loses_a_background_task_ends_and_is_started_again(
    task: str, kind: str, folder: Path, sink: Sink
) -> None:
    order = folder / "dies"
    log = folder / "gateway.log"
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    inside = {"PYTHONPATH": str(INSIDE), "FAULTS_INSIDE": "tasks", "FAULTS_TASKS": str(order)}
    with Unheard(folder, sink, fd, **inside) as gateway:
        [first] = gateway.children(kind)
        order.write_text(task)
        wait_for(lambda: gateway.children(kind) not in ([], [first]), "a new process", within_s=60)
        wait_for(gateway.ready, "the gateway to be ready", within_s=60)
        gateway.delivers("after")
        [line] = gateway.lines("unhealthy, ending this process")
        assert (line["pid"], line["level"]) == (first, "critical")
        assert line["reason"].endswith("ended: Unforeseen")
        assert "File" in line["stack"]
        [line] = gateway.lines("child died, starting it again")
        assert line["exit"] == 70
    os.close(fd)
    assert "secret-canary" not in log.read_text()


@pytest.mark.case(n=43)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_every_line_of_a_worker_s_log_is_json_from_its_start_to_its_end(
    number: signal.Signals, folder: Path, sink: Sink
) -> None:
    """Celery prints on a signal, and on a Redis that goes away and comes back."""
    log = folder / "worker.log"
    with Gateway(folder, target("all", sink.port)) as gateway:
        argv = [HEADRACE, "worker", "--config", str(gateway.config)]
        with open(log, "wb") as output:
            worker = subprocess.Popen(argv, stdout=output, stderr=output, env=gateway.env())
        try:
            wait_for(lambda: count(log, "worker ready") == 1, "the worker", within_s=60)
            [(child, _)] = children_of(worker.pid)
            os.kill(child, signal.SIGUSR1)
            wait_for(lambda: count(log, "where each thread is") == 1, "the stacks", within_s=60)
            gateway.kill("redis-server")
            wait_for(gateway.ready, "Redis to be back", within_s=60)
            os.kill(child, number)
            wait_for(lambda: count(log, "child died, starting it again") == 1, "its end", within_s=60)
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
    for line in log.read_text().splitlines():
        json.loads(line)


@pytest.mark.case(n=57)
def test_a_path_token_that_a_library_logs_is_masked(folder: Path, sink: Sink) -> None:
    """Whatever logs a request's path, in ingress and in a worker."""
    fd = os.open(folder / "gateway.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    inside = {"PYTHONPATH": str(INSIDE), "FAULTS_INSIDE": "paths", "FAULTS_PATH": REQUESTS["truust"][0]}
    with Unheard(folder, sink, fd, **inside):
        log = folder / "gateway.log"
        for process in ("ingress", "worker"):
            for event in ("a library says /webhooks/truust/***", "a field holds it", "it is bound"):
                wait_for(lambda: has_line(log, event, process), f"{event} in {process}")  # noqa: B023
    os.close(fd)
    said = (folder / "gateway.log").read_text()
    assert "/webhooks/truust/***" in said
    assert TRUUST_TOKEN not in said


def has_line(log: Path, event: str, process: str) -> bool:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return any((line["event"], line["process"]) == (event, process) for line in lines)


def count(log: Path, event: str) -> int:
    return log.read_text().count(f'"event":"{event}"')


def refuse(port: int, times: int) -> None:
    """Send requests that are refused, each of them a line."""
    request = b"POST /webhooks/nobody HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for _ in range(times):
            connection.sendall(request)
            answer = b""
            while b"}" not in answer:
                block = connection.recv(65_536)
                assert block
                answer += block
            assert answer.startswith(b"HTTP/1.1 404")


def deliver(gateway: Gateway, times: int) -> set[str]:
    """Send events over a few connections; return their ids."""
    ids: set[str] = set()

    def send(part: int) -> None:
        path, headers = REQUESTS["trustshare"]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
            for number in range(times // 8):
                content = body(f"{part}-{number}")
                head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(content)}\r\n\r\n"
                connection.sendall(head.encode() + content)
                answer = b""
                while b"}" not in answer:
                    block = connection.recv(65_536)
                    assert block
                    answer += block
                assert answer.startswith(b"HTTP/1.1 200"), answer
                ids.add(json.loads(answer[answer.index(b"{") :])["id"])

    threads = [threading.Thread(target=send, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(ids) == times // 8 * 8
    return ids


def read_all(reader: int, said: Any) -> None:
    while block := os.read(reader, 65_536):
        said += block
