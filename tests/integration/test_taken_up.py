"""What a running process holds after a reload is what it would hold had it started with the new file.

All that a process's own objects say of a configuration is compared, key by key: a part that keeps an old value is
found here, whoever adds it, unless `NEED_RESTART` names the key and the process says so.
"""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingress.app import create_app
from ingress.server.gate import Gate
from shared.config.reload import NEED_RESTART, ConfigFile
from shared.store.connection import ScriptConnection
from tests.unit.config_keys import Key, keys, toml
from tests.unit.test_config_keys import files
from workers.runtime import Runtime

__all__ = ["files"]

# Of a target that is gone the breaker's figures stay, for what is under way.
KEPT = re.compile(r"\._breaker_policies\.")
OPENED_LATER = {"_writer", "_taken_up"}
"""What is made of what stands beside it when it is first needed."""
AGAIN = 5
READ_BY_COMMANDS_ONLY = {"ingress.public_url"}
"""Keys that no running process asks for."""

KEYS = [key for key in keys() if key.path != "redis.url"]  # it must be the address of a Redis that is there
OURS = ("ingress.", "workers.", "shared.")
LEAVES = (str, bytes, int, float, type(None))

Held = dict[str, Any]
"""Where something stands, beginning at a process's own objects → what it is."""


@pytest.fixture(autouse=True)
def log_is_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's watch knows where to write its last words, as in a process that has set up its log."""
    monkeypatch.setattr("shared.process.logs.fileno", lambda: 2)


def held_by(*roots: Any) -> Held:
    """Return all plain values that objects of this project hold, with the way to each."""
    found: Held = {}
    seen: dict[int, Any] = {}  # with what has the id, so that nothing else gets it meanwhile

    def walk(value: Any, way: str) -> None:
        if isinstance(value, LEAVES):
            found[way] = value
            return
        if id(value) in seen or isinstance(value, type):
            return
        seen[id(value)] = value
        for name, part in parts(value):
            walk(part, f"{way}.{name}")

    for number, root in enumerate(roots):
        walk(root, str(number))
    return found


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key), item
    elif isinstance(value, (set, frozenset)):
        yield from ((str(number), item) for number, item in enumerate(sorted(value, key=repr)))
    elif isinstance(value, (list, tuple)):
        yield "len", len(value)
        yield from ((str(number), item) for number, item in enumerate(value))
    elif isinstance(value, MethodType):
        yield "self", value.__self__
    elif isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((name, cell.cell_contents) for name, cell in cells)
    elif type(value).__module__.startswith((*OURS, "starlette.", "ipaddress")):
        names = {name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())}
        for name in sorted({*names, *getattr(value, "__dict__", ())} - OPENED_LATER):
            # The file itself always has the new configuration, and a connection to Redis has none of it.
            if hasattr(value, name) and not isinstance(value, (ConfigFile, ScriptConnection)):
                yield name, getattr(value, name)


class Worker:
    """What a worker process runs on, without Celery's loop."""

    def __init__(self, path: Path) -> None:
        self.file = ConfigFile(path)
        self.runtime = Runtime(self.file)

    def after(self, change: Callable[[], None] | None) -> Held:
        """Start; make a change of the file and reload, if there is one; return what is held then."""
        self.runtime.start()
        try:
            if change is not None:
                before = self.file.config
                change()
                self.runtime.reload_soon()
                self.runtime.loop.call(asyncio.sleep(0))  # what was handed to the loop before has run then
                assert self.file.config is not before
            return held_by(self.runtime)
        finally:
            self.runtime.close()


class Ingress:
    """What an ingress process runs on, without a socket."""

    def __init__(self, path: Path) -> None:
        self.file = ConfigFile(path)
        self.gate = Gate(self.file.config.ingress)

    def after(self, change: Callable[[], None] | None) -> Held:
        return asyncio.run(self._after(change))

    async def _after(self, change: Callable[[], None] | None) -> Held:
        app = create_app(self.file, gate=self.gate)
        async with app.router.lifespan_context(app):
            if change is not None:
                before = self.file.config
                change()
                os.kill(os.getpid(), signal.SIGHUP)
                async with asyncio.timeout(60):
                    while self.file.config is before:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
            return held_by(app, self.gate)


def compared(process: type[Worker | Ingress], path: Path, key: Key, url: str) -> tuple[set[str], set[str]]:
    """Return the ways to what a key changes in a process, and those to what a reload leaves as it was."""

    def write(value: Any) -> None:
        tree = key.tree(value)
        path.write_text(toml({**tree, "redis": {**tree.get("redis", {}), "url": url}}))

    old, new = key.values[:2]
    write(old)
    before, again = process(path).after(None), process(path).after(None)
    with capture_logs() as lines:
        reloaded = process(path).after(lambda: write(new))
    fresh = process(path).after(None)
    said = [line["key"] for line in lines if line["event"] == "a change that needs a restart"]
    assert said == [key.path for _ in range(key.path in NEED_RESTART)]
    # What differs between two that had the same file is no matter of the key.
    ways = {way for way in before.keys() | fresh.keys() if before.get(way) == again.get(way)}
    changed = {way for way in ways if before.get(way) != fresh.get(way) and not KEPT.search(way)}
    return changed, {way for way in changed if reloaded.get(way) != fresh.get(way)}


@pytest.mark.case(n=48)
@pytest.mark.parametrize("key", KEYS, ids=[key.label for key in KEYS])
def test_a_reloaded_process_holds_what_a_fresh_one_would(key: Key, files: Path, redis_url: str) -> None:
    asked_for = set()
    for process in (Worker, Ingress):
        changed, stale = compared(process, files / "headrace.toml", key, redis_url)
        while stale and key.path not in NEED_RESTART:
            # A process does things of its own meanwhile: an old value is what is there every time.
            _, more = compared(process, files / "headrace.toml", key, redis_url)
            assert stale != more, "an old value stays"
            stale &= more
        asked_for |= changed
    assert asked_for or key.path in {*NEED_RESTART, *READ_BY_COMMANDS_ONLY}, "no process asks for it"
