"""Inside the process under test: names every operation on Redis and on a target, and kills the process at one.

It sits below the store and the egress client, in redis-py's connections (the asynchronous ones and Kombu's), in
the connection of scripts and in the egress connection, so that an operation which is new is found without anybody telling this file. A point is
`<what> in <who>:<side>`: `settle in deliver.Deliverer._round_trip:after`. Sides: `before` it is sent; `amid`, a pipeline of
which only the first command was sent; `after` its reply or answer has come, and nothing was made of it yet.
A transaction of the archive is `commit`: `before`, all is written and nothing kept yet; `after`, it is on the disk.
"""

import asyncio
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha1
from pathlib import Path
from types import FrameType
from typing import Any

import redis.asyncio.connection
import redis.connection
from redis.exceptions import ResponseError

import shared
from shared.archive.database import Database
from shared.http.connection import Connection, Ended
from shared.http.dial import Dialler
from shared.store.client import source
from shared.store.connection import ScriptConnection

ROOT = Path(shared.__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "shared/store/scripts").glob("*.lua"))
_OURS = tuple(f"{ROOT / part}/" for part in ("shared", "workers", "ingress"))
_STORE = f"{ROOT / 'shared/store'}/"
# They stand between whoever wants something and redis-py, or below all that this process does.
_PASSED = {
    str(ROOT / part)
    for part in (
        "shared/store/client.py",
        "ingress/grouping.py",
        "shared/store/connection.py",
        "shared/cli/__init__.py",
        "shared/cli/running.py",
    )
} | {str(ROOT / part) for part in ("workers/app.py", "workers/__main__.py", "ingress/__main__.py")}
_BELOW_ALL = "runtime.Runtime._run"
_PENDING = "_points_pending"


class Armed:
    """What this process is to do: die at the `occurrence`-th `point`, or write each point into a file.

    `asleep`: it counts nothing before `awake`.
    """

    def __init__(self, kill: str | None = None, record: str | None = None, *, asleep: bool = False) -> None:
        self.asleep = asleep
        self.point, _, number = (kill or "").rpartition("#")
        self.occurrence = int(number or 0)
        self.file = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if record else None
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    def at(self, point: str, methods: Sequence[str] = ()) -> bool:
        """Count a point that was reached; True where the process is to die there."""
        if self.asleep:
            return False
        with self.lock:
            self.counts[point] += 1
            number = self.counts[point]
        if self.file is not None:
            os.write(self.file, "\t".join([point, *methods]).encode() + b"\n")
        return point == self.point and number == self.occurrence


_armed = Armed()


def arm(kill: str | None, record: str | None, *, asleep: bool) -> None:
    """Say what to do; in a process that was just forked."""
    global _armed  # noqa: PLW0603
    _armed = Armed(kill, record, asleep=asleep)


def awake() -> None:
    """Count from now on."""
    _armed.asleep = False


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _reach(point: str, methods: Sequence[str] = ()) -> None:
    if _armed.at(point, methods):
        _die()


# -- what is done


@cache
def _by_sha() -> dict[str, str]:
    return {sha1(source(name).encode()).hexdigest(): name for name in SCRIPTS}  # noqa: S324


def _split(packed: Any) -> list[tuple[str, bytes]]:
    """Return the commands in what redis-py sends, each by its name and in its bytes."""
    data = packed.encode() if isinstance(packed, str) else packed
    data = data if isinstance(data, bytes) else b"".join(data)
    commands, at = [], 0
    while at < len(data):
        start, words = at, []
        end = data.index(b"\r\n", at)
        count, at = int(data[at + 1 : end]), end + 2
        for _ in range(count):
            end = data.index(b"\r\n", at)
            length = int(data[at + 1 : end])
            words.append(data[end + 2 : end + 2 + length])
            at = end + 2 + length + 2
        commands.append((_named(words), data[start:at]))
    return commands


def _named(words: Sequence[bytes]) -> str:
    name = words[0].decode().lower()
    if name == "evalsha":
        return _by_sha().get(words[1].decode(), "another's script")
    if name in {"script", "xgroup", "config"}:
        return f"{name} {words[1].decode().lower()}"
    return name


def _who(frame: FrameType | None) -> tuple[str, list[str]]:
    """Return who wants it, the nearest outside of the store, and the store's functions on the way there."""
    methods: list[str] = []
    outside = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if frame.f_code.co_name in {"on_connect_check_health", "_connect"}:
            return "a new connection", []
        if file.startswith(_OURS) and file not in _PASSED:
            name = f"{Path(file).stem}.{frame.f_code.co_qualname}".replace("<locals>.", "")
            if file.startswith(_STORE):
                methods.append(name)
            elif name != _BELOW_ALL:
                outside = outside or name
        frame = frame.f_back
    return outside or (methods[-1] if methods else "kombu"), methods


def _point(commands: Sequence[tuple[str, bytes]], frame: FrameType) -> tuple[str, list[str]]:
    who, methods = _who(frame)
    return f"{'+'.join(dict.fromkeys(name for name, _ in commands))} in {who}", methods


# -- redis-py


def _sent(connection: Any, point: str, methods: list[str], replies: int) -> None:
    # Only once it is sent: a connection that must be opened first has had replies of its own until then.
    waiting = connection.__dict__.setdefault(_PENDING, deque())
    waiting.append([f"{point}:after", methods, replies])


def _read(connection: Any) -> None:
    waiting = connection.__dict__.get(_PENDING)
    if waiting:
        waiting[0][2] -= 1
        if waiting[0][2] == 0:
            point, methods, _ = waiting.popleft()
            _reach(point, methods)


def _hook_asynchronous() -> None:
    kind: Any = redis.asyncio.connection.AbstractConnection
    send: Callable[..., Awaitable[None]] = kind.send_packed_command
    read: Callable[..., Awaitable[Any]] = kind.read_response

    async def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        commands = _split(command)
        point, methods = _point(commands, sys._getframe(1))
        _reach(f"{point}:before", methods)
        if len(commands) > 1 and _armed.at(f"{point}:amid", methods):
            await send(self, commands[0][1], check_health)
            await asyncio.sleep(0.005)  # the transport writes when the loop comes round
            _die()
        await send(self, command, check_health)
        _sent(self, point, methods, len(commands))

    async def read_response(self: Any, *args: Any, **options: Any) -> Any:
        try:
            reply = await read(self, *args, **options)
        except ResponseError:
            _read(self)
            raise
        _read(self)
        return reply

    kind.send_packed_command, kind.read_response = send_packed_command, read_response


def _hook_scripts() -> None:
    kind: Any = ScriptConnection
    ask: Callable[..., Awaitable[list[Any]]] = kind.ask

    async def ask_(self: Any, commands: Sequence[bytes]) -> list[Any]:
        named = _split(list(commands))
        point, methods = _point(named, sys._getframe(1))
        _reach(f"{point}:before", methods)
        if len(named) > 1 and _armed.at(f"{point}:amid", methods):
            asking = asyncio.ensure_future(ask(self, commands[:1]))
            await asyncio.sleep(0.005)  # the transport writes when the loop comes round
            del asking
            _die()
        replies = await ask(self, commands)
        _reach(f"{point}:after", methods)
        return replies

    kind.ask = ask_


def _hook_synchronous() -> None:
    kind: Any = redis.connection.AbstractConnection
    send: Callable[..., None] = kind.send_packed_command
    read: Callable[..., Any] = kind.read_response

    def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        commands = _split(command)
        point, methods = _point(commands, sys._getframe(1))
        _reach(f"{point}:before", methods)
        if len(commands) > 1 and _armed.at(f"{point}:amid", methods):
            send(self, [commands[0][1]], check_health)
            _die()
        send(self, command, check_health)
        _sent(self, point, methods, len(commands))

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        try:
            reply = read(self, *args, **options)
        except ResponseError:
            _read(self)
            raise
        _read(self)
        return reply

    kind.send_packed_command, kind.read_response = send_packed_command, read_response


# -- targets


def _hook_egress() -> None:
    kind: Any = Connection
    exchange, received = kind.exchange, kind.data_received
    opened: Callable[..., Awaitable[Any]] = Dialler.open
    asked: dict[int, str] = {}

    def exchange_(self: Any, request: bytes, deadline: float, ended: Ended) -> Any:
        asked[id(self)] = f"POST {request.split(b' ', 2)[1].decode()}"
        _reach(f"{asked[id(self)]}:before")
        return exchange(self, request, deadline, ended)

    def data_received(self: Any, data: bytes) -> None:
        if id(self) in asked:
            _reach(f"{asked.pop(id(self))}:after")
        received(self, data)

    async def open_(self: Any, *args: Any, **options: Any) -> Any:
        _reach("connect to a target:before")
        connection = await opened(self, *args, **options)
        _reach("connect to a target:after")
        return connection

    kind.exchange, kind.data_received = exchange_, data_received
    Dialler.open = open_  # type: ignore[method-assign]


# -- the archive


def _hook_archive() -> None:
    kind: Any = Database
    writing = kind.writing

    @contextmanager
    def writing_(self: Any) -> Iterator[Any]:
        who, methods = _who(sys._getframe(1))
        with writing(self) as connection:
            yield connection
            _reach(f"commit in {who}:before", methods)
        _reach(f"commit in {who}:after", methods)

    kind.writing = writing_


def install() -> None:
    """Hook redis-py, the egress connection and the archive's transactions of this process. Once."""
    _hook_asynchronous()
    _hook_scripts()
    _hook_synchronous()
    _hook_egress()
    _hook_archive()
