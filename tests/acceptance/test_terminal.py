"""`headrace up` and the terminal that it was started from: it ends with it, unless it was told not to."""

import fcntl
import os
import signal
import socket
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.gateway import HEADRACE, Gateway, children_of, clean_env, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

# A job of the shell that is not in the foreground: nobody sends it a signal when the terminal goes away.
BACKGROUND = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A terminal and a command in it."""

    def __init__(self, argv: list[str], folder: Path) -> None:
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            argv,
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=clean_env() | {"TERM": "xterm"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)
        self.shown = b""
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def _read(self) -> None:
        with suppress(OSError):
            while not self.closing:
                self.shown += os.read(self.master, 4096)

    closing = False

    def close(self) -> None:
        """Close it, as its window is."""
        self.closing = True
        # The reader holds the terminal open until it has read once more.
        os.write(self.master, b"\n")
        self.reading.join(30)
        os.close(self.master)


@pytest.fixture
def started() -> Iterator[list[int]]:
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def shells(script: list[str], command: list[str]) -> list[str]:
    """A shell that runs a command and waits for it."""
    return ["sh", "-c", '"$@" </dev/null >output.txt 2>&1 & wait', "sh", *script, *command]


@pytest.mark.parametrize("how", ["foreground", "demo", "shell", "background"])
def test_up_ends_when_its_terminal_goes_away(how: str, folder: Path, sink: Sink, started: list[int]) -> None:
    gateway = Gateway(folder, target("all", sink.port))
    command = [HEADRACE, "up", "--config", str(gateway.config)]
    if how == "demo":
        gateway.config.unlink()
        command = [HEADRACE, "up", "--port", str(gateway.port)]
    elif how == "shell":
        command = shells([], command)
    elif how == "background":
        command = shells(["python3", "-c", BACKGROUND], command)
    terminal = Terminal(command, folder)
    wait_for(gateway.ready, "the gateway to be ready", within_s=60)
    if how == "demo":
        wait_for(lambda: b"Ctrl-C" in terminal.shown, "the demo's table", within_s=60)
    supervisor = terminal.process.pid
    if how in ("shell", "background"):
        [(supervisor, _)] = children_of(supervisor)
    everything = [supervisor, *(pid for pid, _ in children_of(supervisor))]
    started += [terminal.process.pid, *everything]
    assert len(everything) == (5 if how == "demo" else 4)
    terminal.close()
    terminal.process.wait(60)
    wait_for(lambda: all(has_ended(pid) for pid in everything), "every process to end", within_s=60)
    assert is_free(gateway.port)


def test_with_nohup_up_outlives_its_terminal_and_reloads_on_sighup(
    folder: Path, sink: Sink, started: list[int]
) -> None:
    gateway = Gateway(folder, target("all", sink.port))
    terminal = Terminal(shells(["nohup"], [HEADRACE, "up", "--config", str(gateway.config)]), folder)
    wait_for(gateway.ready, "the gateway to be ready", within_s=60)
    [(supervisor, _)] = children_of(terminal.process.pid)
    started += [terminal.process.pid, supervisor]
    terminal.close()
    terminal.process.wait(60)
    log = folder / "output.txt"
    wait_for(lambda: "worker ready" in log.read_text(), "the worker to be ready", within_s=60)
    gateway.config.write_text(gateway.config.read_text() + target("new", sink.port))
    os.kill(supervisor, signal.SIGHUP)
    wait_for(lambda: log.read_text().count("configuration reloaded") >= 2, "the reload", within_s=60)
    gateway.post("trustshare", b'{"type":"dispute_raised","from":"a","to":"b","token":"t"}')
    sink.wait_for("new", 1)
    os.kill(supervisor, signal.SIGTERM)
    wait_for(lambda: has_ended(supervisor), "the end", within_s=60)
    assert is_free(gateway.port)


def test_sighup_on_a_terminal_that_is_there_is_a_reload(folder: Path, sink: Sink, started: list[int]) -> None:
    gateway = Gateway(folder, target("all", sink.port))
    terminal = Terminal([HEADRACE, "up", "--config", str(gateway.config)], folder)
    started.append(terminal.process.pid)
    wait_for(gateway.ready, "the gateway to be ready", within_s=60)
    wait_for(lambda: b"worker ready" in terminal.shown, "the worker to be ready", within_s=60)
    gateway.config.write_text(gateway.config.read_text() + target("new", sink.port))
    terminal.process.send_signal(signal.SIGHUP)
    wait_for(lambda: terminal.shown.count(b"configuration reloaded") >= 2, "the reload", within_s=60)
    assert terminal.process.poll() is None
    terminal.close()
    assert terminal.process.wait(60) == 0


def test_an_argument_that_is_not_utf_8_and_an_output_that_is_full_are_one_line_each(folder: Path) -> None:
    config = folder / "headrace.toml"
    config.write_text("")
    with open("/dev/full", "wb") as full:
        calls: dict[int, list[str | bytes]] = {2: ["transaction", "trustshare", b"\xff"], 1: ["schema"]}
        for code, argv in calls.items():
            done = subprocess.run(
                [HEADRACE, *argv],
                stdout=full,
                stderr=subprocess.PIPE,
                env=clean_env() | {"HEADRACE_CONFIG": str(config)},
                check=False,
            )
            assert (done.returncode, done.stderr.count(b"\n")) == (code, 1), done.stderr
            assert done.stderr.startswith(b"headrace: ")
