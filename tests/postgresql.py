"""A PostgreSQL of the tests' own, from the machine's package; only tests that ask for one start it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.acceptance.gateway import children_of, free_port
from tests.programs import program
from tests.waiting import wait_for

if TYPE_CHECKING:
    from psycopg import Connection

USER, PASSWORD = "headrace", "postgresql-password-0123456789"
"""Who owns the databases and may do nothing else, as in production."""

SUPERUSER, SUPERUSER_PASSWORD = "postgres", "superuser-password-0123456789"

# Ends the server and removes its folder once the process of the tests is gone, however it ended.
WATCH = """
while read -r pid; do running=$pid; done
if [ "$running" ]; then kill -CONT "$running"; kill -QUIT "$running"; sleep 1; fi
# Killed, it leaves a segment of shared memory, whose id stands in line 7.
left=$(sed -n '7s/.* //p' "$1/data/postmaster.pid") && [ "$left" ] && ipcrm -m "$left"
rm -rf "$1"
"""


class PostgreSQL:
    """A server with a folder and a port of its own.

    `options` are further arguments of `postgres`, such as `"-c", "fsync=on"` for a test that is about it.
    """

    def __init__(self, *options: str) -> None:
        binaries = Path(program("initdb", "postgresql")).resolve().parent
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="hr-postgresql-"))
        self.log = self.folder / "log"
        data = self.folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self._watch = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        # PostgreSQL refuses to run as root; its package brings a user.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        password = self.folder / "password"
        password.write_text(SUPERUSER_PASSWORD)
        for path in (self.folder, password) if self._user else ():
            shutil.chown(path, "postgres", "postgres")
        # Without a locale of UTF-8, text search takes no letter beyond ASCII for one.
        initdb: list[str | Path] = [binaries / "initdb", "-D", data, "-U", SUPERUSER, "--pwfile", password]
        initdb += ["-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        subprocess.run(initdb, cwd=self.folder, stdout=subprocess.DEVNULL, check=True, **self._user)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",  # what a killed process has written is there all the same
            "dynamic_shared_memory_type": "mmap",  # in the folder, and removed with it
        }
        self._argv: list[str | Path] = [binaries / "postgres", "-D", data]
        self._argv += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._argv += options
        self.start()
        self.administer(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        """Have the server run and answer: after `kill` it recovers first, after `pause` it goes on."""
        if self.process and self.process.poll() is None:
            self.resume()
        else:
            self._begin()
        wait_for(self._answers, "PostgreSQL to answer", within_s=60)

    def _begin(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self._argv,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._user,
            )
        self._tell_watch(str(self.process.pid))

    def stop(self) -> None:
        """Stop the server as an operator does: connections are ended, and all is written."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self._ended()

    def kill(self) -> None:
        """End all its processes at once, in the middle of whatever they do."""
        self.pause()  # so that it starts no more
        pids = self._pids()
        _send(signal.SIGKILL, pids)
        assert self.process is not None
        self.process.wait()
        wait_for(lambda: not any(map(_runs, pids)), "PostgreSQL's processes to end")
        self._ended()

    def pause(self) -> None:
        """Make a black hole of it: connections are taken, and nothing is answered until `resume`."""
        stopped: set[int] = set()
        while new := [pid for pid in self._pids() if pid not in stopped]:  # the first starts the others
            _send(signal.SIGSTOP, new)
            stopped.update(new)

    def resume(self) -> None:
        """Go on after `pause`."""
        _send(signal.SIGCONT, self._pids())

    def close(self) -> None:
        """Stop the server if it runs, and remove all that it wrote."""
        if self.process is not None:
            self.resume()
            self.stop()
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, database: str, user: str = USER, password: str = PASSWORD) -> str:
        """Return a database's URL as a configuration has it."""
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        self.administer(f'CREATE DATABASE "{name}" OWNER {USER}')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def administer(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser, each by itself."""
        with self._connect(database) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _connect(self, database: str = "postgres") -> "Connection":
        import psycopg  # takes a tenth of a second; most tests need none

        return psycopg.connect(
            libpq(self.url(database, SUPERUSER, SUPERUSER_PASSWORD)), autocommit=True, connect_timeout=10
        )

    def _answers(self) -> bool:
        from psycopg import OperationalError

        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            self._connect().close()
        except OperationalError:
            return False
        return True

    def _pids(self) -> list[int]:
        """The first process, and those that it started."""
        assert self.process is not None
        return [self.process.pid, *(pid for pid, _ in children_of(self.process.pid))]

    def _ended(self) -> None:
        self.process = None
        self._tell_watch("")

    def _tell_watch(self, pid: str) -> None:
        assert self._watch.stdin is not None
        self._watch.stdin.write(f"{pid}\n".encode())
        self._watch.stdin.flush()


def psql(url: str, query: str) -> str:
    """Return what `psql` prints for a query: a line for each row, its columns parted by `|`."""
    argv = [program("psql", "postgresql-client"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", query, libpq(url)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip("\n")


def libpq(url: str) -> str:
    """Return a configuration's URL as PostgreSQL's own programs take it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _send(signal_: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, signal_)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
