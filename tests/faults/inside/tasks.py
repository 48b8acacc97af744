"""Ends background tasks by an error of a kind that nothing foresees, while a file says so: FAULTS_TASKS.

The file holds the names of the tasks, and is removed by the first that dies of it.
"""

import os
from pathlib import Path
from typing import Any

from patching import after  # type: ignore[import-not-found]

_FILE = Path(os.environ["FAULTS_TASKS"])


class Unforeseen(BaseException):
    """No `except Exception` catches it."""


def _die(name: str) -> None:
    if _FILE.exists() and name in _FILE.read_text():
        _FILE.unlink()
        raise Unforeseen("secret-canary")


def _sweep(module: Any) -> None:
    sweep = module.Sweeper.sweep

    async def dies(self: Any) -> None:
        _die("sweep")
        await sweep(self)

    module.Sweeper.sweep = dies


def _bells(module: Any) -> None:
    queued = module.Bells.queued

    async def dies(self: Any) -> int:
        _die("watch")
        return int(await queued(self))

    module.Bells.queued = dies


def _commit(module: Any) -> None:
    check = module.Acceptance.check

    async def dies(self: Any) -> None:
        _die("commit")
        await check(self)

    module.Acceptance.check = dies


after("workers.sweep", _sweep)
after("shared.store.bells", _bells)
after("ingress.acceptance", _commit)
