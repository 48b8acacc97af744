"""Ends a worker that is at one entry for longer than 2 s: for a test in which one loops, and no other is slow."""

from typing import Any

from patching import after  # type: ignore[import-not-found]


def _watchdog(module: Any) -> None:
    module.READ_AT_MOST_S = 2.0


after("workers.watchdog", _watchdog)
