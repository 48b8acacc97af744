"""What the commands print, in a small story that is always the same.

The story is told to a real Redis through the real code, and each command runs as a user runs it, on a terminal of
100 columns. Ids, times, ports and versions, which differ from run to run, are replaced by fixed ones.
"""

import io
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime, timedelta
from functools import cache
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import zip_longest
from pathlib import Path

from shared.cli import cli
from shared.store.due import End
from shared.store.layout import take_up
from tests.acceptance.gateway import HEADRACE, SECRET, clean_env, free_port
from tests.conftest import MEMORY, RedisServer
from tests.integration.filled import Filled, with_redis
from tests.waiting import wait_for

COLUMNS = 100
PROGRESS = "━"
START = datetime(2026, 3, 2, 10, 1, 44)
TRANSACTION = "5CIXLExTtrIE8387"
RECEIVED = {"token": TRANSACTION, "amount": 150000, "currency": "GBP", "from": "b", "to": "s"}
CONFIG = """\
[redis]
url = "{redis}"

[ingress]
public_url = "https://hooks.example.com"

[[sources]]
name = "trustshare"
provider = "trustshare"
secrets = ["{secret}"]

[[sources]]
name = "trustist"
provider = "trustist"
path_tokens = ["{secret}"]
currency = "GBP"

[[targets]]
name = "ledger"
url = "http://127.0.0.1:{port}/hooks"
secret = "{secret}"
allow_private = true

[[targets]]
name = "crm"
url = "http://127.0.0.1:{port}/in"
events = ["payment.*"]
secret = "{secret}"
allow_private = true
"""


class Story:
    """What happened before an operator looks."""

    async def tell(self, store: Filled) -> None:
        """Let one event of each kind come in, and deliver them, or fail to."""
        await take_up(store.client, [])
        [self.settling] = await store.receive(
            {"type": "payment_settling", "paymentToken": "f79L9CBt3NuyEEap", **RECEIVED}
        )
        await store.admit("ledger", "crm")
        await store.settle("ledger", End.DONE, status=200)
        await store.settle("crm", End.DONE, status=200)
        paid = {"type": "payment_received", "paymentToken": "f79L9CBt3NuyEEap", **RECEIVED}
        [self.paid] = await store.receive(paid)
        await store.admit("ledger", "crm")
        await store.settle("crm", End.DONE, status=204)
        await store.settle("ledger", End.DEAD, status=400)
        [self.copy] = await store.receive(paid)
        await store.admit()
        [self.unreadable] = await store.receive(b"amount=1500.00&currency=GBP")
        await store.admit()
        [self.disputed] = await store.receive({"type": "dispute_raised", **RECEIVED})
        await store.admit("ledger")
        await store.settle("ledger", End.RETRY, status=503)


_STORY = Story()
_COMMANDS: dict[str, Callable[[], str]] = {
    "check": lambda: "check",
    "events": lambda: "events",
    "event": lambda: f"events {_STORY.paid}",
    "duplicates": lambda: "events --duplicates",
    "deliveries": lambda: f"deliveries {_STORY.paid}",
    "transaction": lambda: f"transaction trustshare {TRANSACTION}",
    "dead-letters": lambda: "dead-letters",
    "quarantine": lambda: "quarantine",
    "targets": lambda: "targets",
    "test": lambda: "targets test crm",
    "pause": lambda: "targets pause crm",
    "resume": lambda: "targets resume crm",
    "admit": lambda: "admit --all --dry-run",
    "retry": lambda: "retry --target ledger --yes",
    "replay": lambda: "replay --dead-letters ledger --yes",
    "discard": lambda: "quarantine discard --source trustshare --yes",
    "simulate": lambda: "simulate trustist --scenario onboarded",
    "schema": lambda: "schema payment.received",
    "secret": lambda: "secret",
}
NAMES = ("demo", *_COMMANDS)
"""The outputs there are."""
DIFFER = (
    (r"\b\d+(\.\d+)? ms\b", "12 ms"),
    (r"whsec_[A-Za-z0-9+/=]+", SECRET),
    (r"(version +)\d+\.\d+\.\d+", r"\g<1>7.0.15"),
    (r"oldest \d+(\.\d+)? s\b *", "oldest 20.6 s  "),
    (r"(webhook-timestamp: )\d+", r"\g<1>1772445704"),
    (r"(signature: v1,)\S+", r"\g<1>0YsFHn21PVwjmlKV6odrCG5FP9RVvCMHvEolJ4OvMJM="),
    (r"[\d.]+ requests/s for [\d.]+ s", "153 requests/s for 0.013 s"),
)
"""What differs from run to run, and what stands instead."""
LONG = {"schema": 14}
"""How many lines of an output are enough."""


def shown(name: str) -> str:
    """Return a command and what it prints, as a block of Markdown."""
    return f"```console\n{_outputs()[name]}\n```"


@cache
def _outputs() -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="hr-", dir=MEMORY) as name:
        folder = Path(name)
        server = RedisServer(folder)
        server.start()
        try:
            with _receiver() as port:
                return _ask(folder, server.url, port) | {"demo": _demo(folder)}
        finally:
            server.kill()


def _ask(folder: Path, redis: str, port: int) -> dict[str, str]:
    config = folder / "headrace.toml"
    config.write_text(CONFIG.format(redis=redis, port=port, secret=SECRET))
    os.environ["COLUMNS"] = str(COLUMNS)
    with_redis(redis, _STORY.tell)
    fixed = Fixed({redis: "redis://127.0.0.1:6379/0", str(folder): ".", str(port): "9000"})
    fixed.ids = [_STORY.settling, _STORY.paid, _STORY.copy, _STORY.unreadable, _STORY.disputed]
    outputs = {}
    for name, command in _COMMANDS.items():
        with _ingress(config) if name == "simulate" else _nothing():
            lines = fixed(on_a_terminal(_arguments(config, command()))).splitlines()
        if len(lines) > (most := LONG.get(name, 40)):
            lines = [*lines[:most], "…"]
        if name == "targets":
            lines = aligned(lines)
        outputs[name] = "\n".join([fixed(f"$ headrace {command()}"), *lines]).rstrip()
    return outputs


def _arguments(config: Path, command: str) -> list[str]:
    words = command.split()
    return words if words[0] in ("secret", "schema") else ["--config", str(config), *words]


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _ingress(config: Path) -> Iterator[None]:
    """Run an ingress process, at the port that the configuration will name."""
    port = free_port()
    config.write_text(config.read_text().replace("[ingress]\n", f"[ingress]\nport = {port}\n"))
    with open(os.devnull, "wb") as log:
        argv = [HEADRACE, "ingress", "--config", str(config)]
        process = subprocess.Popen(argv, env=clean_env(), stdout=log, stderr=log)
        try:
            wait_for(lambda: _answers(port), "ingress to answer", within_s=60)
            yield
        finally:
            process.terminate()
            process.wait(30)


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _demo(folder: Path) -> str:
    """Return the table that `headrace up` shows without a configuration."""
    folder = folder / "demo"
    folder.mkdir()
    output = folder / "output"
    argv = [HEADRACE, "up", "--port", str(free_port())]
    with open(output, "wb") as file:
        env = clean_env() | {"COLUMNS": str(COLUMNS)}
        process = subprocess.Popen(argv, cwd=folder, stdout=file, stderr=file, env=env)
    try:
        wait_for(lambda: "Ctrl-C" in output.read_text(), "the demo's table", within_s=90)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    lines = [line.rstrip() for line in output.read_text().splitlines()]
    table = lines[next(n for n, line in enumerate(lines) if line.startswith("What came in")) :]
    ends = next(n for n, line in enumerate(table) if "checked by the receiver" in line)
    return "\n".join(["$ deploy/up", "…", *table[: ends + 1]])


@contextmanager
def _receiver() -> Iterator[int]:
    """A target that answers 200 to all."""

    class Thanks(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response_only(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Thanks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def aligned(lines: list[str]) -> list[str]:
    """Return a table's lines with columns as wide as they need to be now."""
    rows = [re.split(r" {2,}", line.rstrip()) for line in lines]
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


class Terminal(io.TextIOWrapper):
    """Standard output, as a command sees it that runs at a terminal."""

    def isatty(self) -> bool:
        """Say that it is a terminal."""
        return True


def on_a_terminal(args: list[str]) -> str:
    """Return what a command prints on a terminal, without its colours and its progress, which is erased."""
    printed = io.BytesIO()
    with Terminal(printed, encoding="utf-8", write_through=True) as terminal, redirect_stdout(terminal):
        with suppress(SystemExit):
            cli(args, prog_name="headrace")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.getvalue().decode()).replace("\r", "\n")
    return "".join(line for line in text.splitlines(keepends=True) if PROGRESS not in line)


class Fixed:
    """Replaces what differs from run to run, the same by the same."""

    def __init__(self, words: dict[str, str]) -> None:
        self.words = words
        self.ids: list[str] = []

    def __call__(self, text: str) -> str:
        """Return `text` with fixed ids, times, durations, secrets and versions."""
        for word, instead in self.words.items():
            text = text.replace(word, instead)
        text = self._ids_and_times(text)
        for pattern, instead in DIFFER:
            text = re.sub(pattern, instead, text)
        return text

    def _ids_and_times(self, text: str) -> str:
        """Replace ids, and each time by one of the event that was named before it."""
        time = START

        def instead(found: re.Match[str]) -> str:
            nonlocal time
            if found["id"]:
                number = self._number(found["id"])
                time = START + timedelta(seconds=97 * number)
                return f"evt_1a1ffdd{0x5680B + 0x17AE8 * number:06x}a5d6f{number:02x}"
            shown = f"{time:%Y-%m-%d}{found['between']}{time:%H:%M:%S}{'.112Z' if found['ms'] else ''}"
            time += timedelta(seconds=1)
            return shown

        return re.sub(
            r"(?P<id>evt_[0-9a-f]{20})|\d{4}-\d\d-\d\d(?P<between>[ T])\d\d:\d\d:\d\d(?P<ms>\.\d+Z)?",
            instead,
            text,
        )

    def _number(self, id: str) -> int:
        if id not in self.ids:
            self.ids.append(id)
        return self.ids.index(id)
