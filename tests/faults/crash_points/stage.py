"""Where a kill is played: a Redis, a sink, and processes from the nursery. One for each that plays at a time."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from shared.store.keys import Keys
from tests.acceptance.gateway import clean_env
from tests.acceptance.sink import Sink
from tests.conftest import MEMORY, RedisServer
from tests.faults.crash_points import scenario
from tests.faults.crash_points.state import ALL

KEYS = Keys()

ROOT = Path(__file__).parents[3]
PATIENCE_S = 30
LINGER_S = 0.4  # after everything has ended: what is done at rest must be reached too


class Process:
    """A process under test."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._code: int | None = None

    def ended(self, within_s: float = 0) -> int | None:
        """Return how it ended, `-9` where it was killed; None while it runs."""
        if self._code is None and (line := self._nursery.line(within_s)):
            self._code = int(line)
        return self._code

    def kill(self) -> int:
        """End it as the fault does."""
        if self.ended() is None:
            os.kill(self.pid, signal.SIGKILL)
        code = self.ended(PATIENCE_S)
        assert code is not None, "a killed process does not end"
        return code


class Nursery:
    """The process that forks those under test, one at a time (nursery.py)."""

    def __init__(self, listener: socket.socket) -> None:
        argv = [sys.executable, "-m", "tests.faults.crash_points.nursery"]
        self._process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=clean_env(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            bufsize=0,
        )
        assert self.line(PATIENCE_S) == "ready", "the nursery does not start"

    def line(self, within_s: float) -> str:
        """Return the next line that it prints; '' where none comes in time."""
        output: Any = self._process.stdout
        if not select.select([output], [], [], within_s)[0]:
            return ""
        return str(output.readline().decode().strip())

    def start(self, **request: Any) -> Process:
        """Fork a process. The one before must have ended."""
        writer: IO[bytes] | None = self._process.stdin
        assert writer is not None
        writer.write(json.dumps(request).encode() + b"\n")
        return Process(self, int(self.line(PATIENCE_S)))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Stage:
    """Everything that one kill after another is played on; `begin` makes it new."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hr-", dir=MEMORY, ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.server = RedisServer(self.folder)
        self.server.start()
        self.redis: Any = self.server.client()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.set_inheritable(True)
        self.port: int = self.listener.getsockname()[1]
        self.nursery = Nursery(self.listener)
        self.config, self.log = self.folder / "headrace.toml", self.folder / "log"
        self.sink = Sink()

    def close(self) -> None:
        self.nursery.close()
        self.sink.close()
        self.listener.close()
        self.redis.close()
        self.server.kill()
        self._folder.cleanup()

    @property
    def archive_url(self) -> str:
        """The archive of the play that has one."""
        return f"sqlite:///{self.folder / 'archive.db'}"

    def begin(self, *, cold: bool, archive: bool = False) -> None:
        """Empty Redis, the archive, the targets' memory and the log.

        `cold`: Redis knows no scripts, as after its restart. `archive`: what finishes is moved at once.
        """
        for file in self.folder.glob("archive.db*"):
            file.unlink()
        self.redis.flushall()
        if cold:
            self.redis.script_flush()
        self.sink.begin_anew()
        self.sink.answers = dict(scenario.ANSWERS)
        url = self.archive_url if archive else ""
        self.config.write_text(scenario.config_text(self.server.url, self.port, self.sink, archive_url=url))
        self.log.write_text("")

    def start(
        self,
        main: str,
        *argv: str,
        kill: str | None = None,
        record: Path | None = None,
        at_the_end: bool = False,
    ) -> Process:
        """Start a process that dies at a point, or writes down all that it comes to."""
        if main == "ingress":
            argv = (f"--fd={self.listener.fileno()}",)
        return self.nursery.start(
            main=main,
            argv=[*argv[:1], "--config", str(self.config), *argv[1:]],
            log=str(self.log),
            kill=kill,
            record=str(record) if record else None,
            at_the_end=at_the_end,
        )

    def work(
        self,
        *,
        kill: str | None = None,
        record: Path | None = None,
        ended: Callable[[], bool] | None = None,
    ) -> bool:
        """Run a worker until it has `ended` (nothing waits any more), and a little on; True where it died at its point.

        Raises AssertionError where it ends otherwise, or does not come to an end.
        """
        ended = ended or self.ended
        worker = self.start("worker", kill=kill, record=record)
        deadline = time.monotonic() + PATIENCE_S
        rest: float | None = None
        while worker.ended(0.01) is None:
            now = time.monotonic()
            if not ended():
                rest = None
                assert now < deadline or worker.kill() == 0, f"it hangs: {self.tail()}"
            elif kill is None and record is None:
                break
            elif rest is None:
                rest = now + LINGER_S + (PATIENCE_S / 30 if kill else 0)
            elif now > rest:
                break
        died = worker.ended() is not None
        code = worker.kill()
        assert code == -signal.SIGKILL, f"the worker ended by itself with {code}: {self.tail()}"
        return died

    def stop(self, *, kill: str | None = None, record: Path | None = None) -> int:
        """Run a worker, and tell it to stop with requests under way. Returns how it ended."""
        before = sum(self.sink.counts("slow").values())
        worker = self.start("worker", kill=kill, record=record, at_the_end=True)
        deadline = time.monotonic() + PATIENCE_S
        while sum(self.sink.counts("slow").values()) == before and not self.ended():
            assert time.monotonic() < deadline, f"nothing comes to a target: {self.tail()}"
            time.sleep(0.005)
        os.kill(worker.pid, signal.SIGTERM)
        code = worker.ended(PATIENCE_S)
        assert code is not None, f"it does not stop: {self.tail()}"
        return code

    def ended(self) -> bool:
        """Nothing waits for a worker, at one moment."""
        pipe = self.redis.pipeline(transaction=True)
        for source in scenario.SOURCES:
            pipe.xlen(KEYS.inbox(source))
        for target in ALL:
            pipe.zcard(KEYS.due(target)).zcard(KEYS.leased(target))
        pipe.keys("hr:lane:*")
        return not any(pipe.execute())

    def age(self) -> None:
        """Let so much time pass for what a dead process held that it is free: no more, and at once.

        A lease, a taken entry, a turn and a duty hold for up to 30 s. No process runs now, so nobody can see the
        difference to waiting.
        """
        seconds, micros = self.redis.time()
        now = seconds * 1000 + micros // 1000
        for target in ALL:
            for id in self.redis.zrange(KEYS.leased(target), 0, -1):
                self.redis.zadd(KEYS.leased(target), {id: now - 1})
        for source in scenario.SOURCES:
            if not self.redis.exists(KEYS.inbox(source)):
                continue
            for group in self.redis.xinfo_groups(KEYS.inbox(source)):
                for row in self.redis.xpending_range(KEYS.inbox(source), group["name"], "-", "+", 100):
                    self.redis.xclaim(
                        *(KEYS.inbox(source), group["name"], row["consumer"], 0, [row["message_id"]]),
                        idle=60_000,
                        justid=True,
                    )
        for kind in ("turn", "duty", "rung"):
            for key in self.redis.keys(f"hr:{kind}:*"):
                self.redis.delete(key)

    def save(self) -> list[tuple[bytes, bytes]]:
        """Return all records, to begin with again."""
        names = [
            name
            for name in self.redis.keys("hr:*")
            if not name.startswith((b"hr:rung:", b"hr:sweeper", b"hr:duty:"))
        ]
        return [(name, dumped) for name in sorted(names) if (dumped := self.redis.dump(name))]

    def restore(self, saved: Sequence[tuple[bytes, bytes]]) -> None:
        for name, dumped in saved:
            self.redis.restore(name, 0, dumped)

    def tail(self) -> str:
        """The end of the processes' log."""
        return self.log.read_text(errors="replace")[-2000:]
