"""Makes one adapter fail by what the body says: real adapters neither raise nor loop nor eat memory.

(The property tests see to that.) Waits are shortened, or this would take minutes.
"""

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

from patching import after  # type: ignore[import-not-found]

ROOM_BYTES = 256 * 1024 * 1024


def _poison(module: Any) -> None:
    normalise = module.Trustshare.normalise

    def poisoned(self: Any, raw: Any) -> Any:
        if b"poison-raises" in raw.body:
            raise KeyError("secret-canary")
        while b"poison-loops" in raw.body:
            time.sleep(0.01)
        if b"poison-kills" in raw.body:
            os.kill(os.getpid(), signal.SIGKILL)
        if b"dies-once" in raw.body and not Path("died-once").exists():
            Path("died-once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if b"poison-eats" in raw.body:
            _eat()
        return normalise(self, raw)

    module.Trustshare.normalise = poisoned


def _eat() -> None:
    """Allocate until there is no more; a limit stands in for the machine's end, for all who share it."""
    with open("/proc/self/statm") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + ROOM_BYTES, limits[1]))
    eaten = []
    try:
        while True:
            eaten.append(bytearray(16 * 1024 * 1024))
    finally:
        eaten.clear()
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _soon(module: Any) -> None:
    module.LEFT_BEHIND_MS = 300


def _short_turns(module: Any) -> None:
    module.TURN_MS = 1000


after("shared.providers.trustshare", _poison)
after("shared.store.admission", _short_turns)
after("shared.store.inbox", _soon)
