"""The processes that are measured: a Redis, ingress, workers, sinks and the references, each by itself.

Redis writes its log with `appendfsync always`, in a folder on the disk: what a commit costs is part of it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from shared.process.embedded import find_server
from shared.process.listening import listen
from tests.acceptance.gateway import SOURCES, clean_env, free_port

START_S = 20.0


class Proc:
    """A child process, and what it cost."""

    def __init__(self, argv: Sequence[str], log: Path, *, pass_fds: Sequence[int] = ()) -> None:
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                argv, stdout=output, stderr=output, env=clean_env(), pass_fds=tuple(pass_fds)
            )
        self.pid = self._process.pid

    def cpu_s(self) -> float:
        """Return the processor time that it has used, all its threads together."""
        # What clock_getcpuclockid(3) returns: nanoseconds, where /proc counts hundredths of a second.
        return time.clock_gettime((~self.pid << 3) | 2)

    def rss_mib(self) -> float:
        """Return the memory that it holds."""
        return (
            int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        )

    def ask_to_end(self) -> None:
        self._process.terminate()

    def end(self) -> None:
        """Have it end as it does for its supervisor; where it does not, kill it."""
        self.ask_to_end()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Stack:
    """A folder, a Redis in it, and whatever is started beside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "headrace.toml"
        self.socket = folder / "redis.sock"
        self.log = folder / "processes.log"
        self._children: list[Proc] = []
        self._numbers = 0
        self.redis = Redis(unix_socket_path=str(self.socket), socket_timeout=60)
        self.server = self.start(
            [
                str(find_server()),
                *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory", "12gb"),
                *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
            ]
        )

    def await_redis(self) -> None:
        """Wait until Redis answers."""

        def answers() -> bool:
            with suppress(RedisError):
                return bool(self.redis.ping())
            return False

        wait_until(answers, "Redis")

    def fresh(self) -> None:
        """Empty Redis, and its log: what was measured before weighs on nothing."""
        self.redis.flushall()
        self.redis.bgrewriteaof()
        wait_until(lambda: self.redis.info("persistence")["aof_rewrite_in_progress"] == 0, "a new log")

    def numbers(self, count: int) -> int:
        """Return the first of `count` numbers that no event of this stack has had."""
        first, self._numbers = self._numbers, self._numbers + count
        return first

    def configure(self, targets: str = "", *, socket: Path | None = None, more: str = "") -> None:
        """Write the configuration; `socket` is where its Redis is, if not at its own socket."""
        url = f'redis.url = "unix://{socket or self.socket}"\n'
        self.config.write_text(f"{url}{more}{SOURCES}{targets}")

    def start(self, argv: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Proc:
        child = Proc(argv, self.log, pass_fds=pass_fds)
        self._children.append(child)
        return child

    def ingress(self, count: int = 1) -> tuple[int, list[Proc]]:
        """Start ingress processes on one port, and wait until they take requests."""
        port = free_port()
        with listen("127.0.0.1", port) as listener:
            fd = str(listener.fileno())
            argv = [sys.executable, "-m", "ingress", "--config", str(self.config), "--fd", fd]
            started = [self.start(argv, pass_fds=[listener.fileno()]) for _ in range(count)]
        wait_until(lambda: answers(port, "/readyz"), "ingress")
        return port, started

    def workers(self, count: int) -> list[Proc]:
        """Start worker processes where none is, and wait until all listen for doorbells."""
        argv = [sys.executable, "-m", "workers", "--config", str(self.config)]
        started = [self.start(argv) for _ in range(count)]
        wait_until(lambda: self.redis.info("clients")["blocked_clients"] >= count, "workers")
        return started

    def serve(self, module: str, *arguments: str) -> int:
        """Start one of our own HTTP servers, `python -m MODULE PORT …`, and wait for it."""
        port = free_port()
        self.start([sys.executable, "-m", module, str(port), *arguments])
        wait_until(lambda: answers(port, "/"), module)
        return port

    def sink(self) -> int:
        """Start what answers 200 at once to everything: nginx where it is installed, else our own."""
        if not shutil.which("nginx"):
            return self.serve("tests.bench.sink")
        port = free_port()
        conf = self.folder / "nginx.conf"
        conf.write_text(
            f"daemon off; worker_processes 1; pid {self.folder}/nginx.pid; error_log stderr crit;\n"
            f"events {{ worker_connections 8192; }}\nhttp {{ access_log off; keepalive_requests 100000000;\n"
            f"client_body_temp_path {self.folder}; client_body_buffer_size 128k;\n"
            f"proxy_temp_path {self.folder}; fastcgi_temp_path {self.folder};"
            f"uwsgi_temp_path {self.folder}; scgi_temp_path {self.folder};\n"
            f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 'ok'; }} }} }}\n"
        )
        self.start(["nginx", "-p", str(self.folder), "-c", str(conf)])
        wait_until(lambda: answers(port, "/"), "nginx")
        return port

    def close(self) -> None:
        self.redis.close()
        for child in self._children:
            child.ask_to_end()
        for child in reversed(self._children):
            child.end()


@contextmanager
def stack(parent: Path | None = None) -> Iterator[Stack]:
    """Give a Stack in a new folder, and take all of it away again."""
    with tempfile.TemporaryDirectory(prefix="hr-bench-", dir=parent, ignore_cleanup_errors=True) as folder:
        it = Stack(Path(folder))
        try:
            it.await_redis()
            yield it
        finally:
            it.close()


def answers(port: int, path: str) -> bool:
    """Tell whether an HTTP server answers 200."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_until(
    holds: Callable[[], bool], what: str, *, within_s: float = START_S, every_s: float = 0.002
) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        time.sleep(every_s)
