"""Loaded by the worker's own Python under test: makes one adapter fail by what the body says.

Real adapters neither raise nor loop (the property tests see to that), so the fault is put in from outside;
the process, its watchdog and the store are the real ones. Waits are shortened, or this would take minutes.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def _patch(module: Any) -> None:
    if module.__name__ == "shared.providers.trustshare":
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
            return normalise(self, raw)

        module.Trustshare.normalise = poisoned
    if module.__name__ == "shared.store.admission":
        module.TURN_MS = 1000
    if module.__name__ == "shared.store.inbox":
        module.LEFT_BEHIND_MS = 300
    if module.__name__ == "workers.runtime":
        module.BATCH_AT_MOST_S = 0.5


class _Finder(importlib.abc.MetaPathFinder):
    """Patches a module right after it is loaded."""

    wanted = frozenset(
        {"shared.providers.trustshare", "shared.store.admission", "shared.store.inbox", "workers.runtime"}
    )

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in self.wanted:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            _patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
