"""The gateway under test: `headrace up` as a user runs it, in a folder of its own."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner, Result
from redis import Redis

from shared.cli import cli
from shared.process.embedded import SERVER_ENV
from shared.process.folder import data_folder, socket_path
from shared.settings import PREFIX
from tests.waiting import wait_for

HEADRACE = str(Path(sys.executable).parent / "headrace")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRUSTSHARE_SECRET = "trustshare-secret-0123456789"
TRUSTAP_PASSWORD = "trustap-password-0123456789"
TRUUST_TOKEN = "truust-token-0123456789"
TRUSTIST_TOKEN = "trustist-token-0123456789"

SOURCES = f"""
[[sources]]
name = "trustshare"
provider = "trustshare"
secrets = ["{TRUSTSHARE_SECRET}"]

[[sources]]
name = "trustap"
provider = "trustap"
username = "headrace"
passwords = ["{TRUSTAP_PASSWORD}"]

[[sources]]
name = "truust"
provider = "truust"
path_tokens = ["{TRUUST_TOKEN}"]

[[sources]]
name = "trustist"
provider = "trustist"
path_tokens = ["{TRUSTIST_TOKEN}"]
currency = "GBP"
"""

BASIC = "Basic " + b64encode(f"headrace:{TRUSTAP_PASSWORD}".encode()).decode()
REQUESTS: dict[str, tuple[str, dict[str, str]]] = {
    "trustshare": ("/webhooks/trustshare", {"x-trustshare-secret": TRUSTSHARE_SECRET}),
    "trustap": ("/webhooks/trustap", {"authorization": BASIC}),
    "truust": (f"/webhooks/truust/{TRUUST_TOKEN}", {}),
    "trustist": (f"/webhooks/trustist/{TRUSTIST_TOKEN}", {}),
}
"""Provider → the path and the credentials of an authentic request."""


def free_port() -> int:
    """Return a port that nobody has, and that nobody else takes until it is listened on.

    Each process of pytest-xdist has ports of its own, below those that Linux gives to who asks for any.
    """
    while True:
        port = next(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _ports() -> Iterator[int]:
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 11
    mine = range(10_000 + 2_000 * process, 12_000 + 2_000 * process)
    start = secrets.randbelow(len(mine))  # another run of the tests may be under way
    return cycle([*mine[start:], *mine[:start]])


PORTS = _ports()


def target(name: str, port: int, **keys: str) -> str:
    """Return the table of a target at the sink; `keys` are further lines, as TOML."""
    lines = {
        "name": f'"{name}"',
        "url": f'"http://127.0.0.1:{port}/{name}"',
        "secret": f'"{SECRET}"',
        "allow_private": "true",
        **keys,
    }
    return "\n[[targets]]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


class Answer:
    """What the gateway answered."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def id(self) -> str:
        """The receipt."""
        assert self.status == 200, (self.status, self.body)
        id: str = json.loads(self.body)["id"]
        return id


class Gateway:
    """`headrace up --config …`, with its embedded Redis, or with one that is there already."""

    def __init__(
        self,
        folder: Path,
        targets: str,
        *,
        ingress: int = 1,
        workers: int = 1,
        sources: str = SOURCES,
        redis_url: str = "embedded",
        prefix: str = PREFIX,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.ingress = ingress
        self.workers = workers
        self.config = folder / "headrace.toml"
        self.config.write_text(
            f'redis.url = "{redis_url}"\nredis.prefix = "{prefix}"\ningress.port = {self.port}\n{sources}{targets}'
        )
        self.log = folder / "gateway.log"
        # The gateway's own Redis: to look, and to break things on purpose.
        self.redis = Redis(unix_socket_path=str(socket_path(data_folder(self.config))), socket_timeout=5)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        argv = [HEADRACE, "up", "--config", str(self.config)]
        argv += ["--ingress", str(self.ingress), "--workers", str(self.workers)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, cwd=self.folder, stdout=log, stderr=log, env=self.env())
        wait_for(self.ready, "the gateway to be ready", within_s=30)
        return self

    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        return clean_env()

    def stop(self) -> int:
        assert self.process is not None
        self.redis.close()
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout_s: float = 10,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, provider: str, body: bytes, *, timeout_s: float = 10, once: bool = False) -> Answer:
        """POST as the provider does, with the right credentials; on 503 again, unless `once`.

        A disk that stalls for a second makes Redis late and ingress answer 503, as it should.
        """
        path, headers = REQUESTS[provider]
        deadline = time.monotonic() + 10
        while True:
            answer = self.request("POST", path, body, headers, timeout_s)
            if answer.status != 503 or once or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            return self.request("GET", "/readyz", timeout_s=2).status == 200
        except OSError:
            return False

    def command(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a `headrace` command against this gateway."""
        argv = [HEADRACE, arguments[0], "--config", str(self.config), *arguments[1:]]
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=timeout_s, env=clean_env(), check=False
        )

    def json(self, *arguments: str) -> Any:
        """Return what a command prints with `--json`; run here, as a process of its own takes half a second."""
        done = self.here(*arguments, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    def here(self, *arguments: str) -> Result:
        """Run a `headrace` command against this gateway in this process."""
        argv = [arguments[0], "--config", str(self.config), *arguments[1:]]
        return CliRunner().invoke(cli, argv, prog_name="headrace")

    def children(self, kind: str) -> list[int]:
        """The process ids of this gateway's `ingress`, `workers` or `redis-server` processes."""
        assert self.process is not None
        return [pid for pid, argv in children_of(self.process.pid) if kind in argv]

    def kill(self, kind: str) -> int:
        """SIGKILL one process of a kind; 0 where none runs at this moment."""
        for pid in self.children(kind)[:1]:
            os.kill(pid, signal.SIGKILL)
            return pid
        return 0

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event."""
        found = []
        named = json.dumps(event)
        whole, _, _ = self.log.read_text(errors="replace").rpartition("\n")  # the last may be half written
        for line in whole.splitlines():
            if line.startswith("{") and named in line and (fields := json.loads(line)).get("event") == event:
                found.append(fields)
        return found


def clean_env() -> dict[str, str]:
    """This environment without what would change a configuration; the choice of server stays."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("HEADRACE_") or key == SERVER_ENV
    }


def children_of(parent: int) -> list[tuple[int, str]]:
    """The processes whose parent is `parent`, with their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
                argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, ppid = stat.rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.append((int(entry.name), argv))
    return found
