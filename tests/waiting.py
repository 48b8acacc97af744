"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], what: str, *, within_s: float = 20) -> None:
    """Wait until `condition` holds; fail, naming `what`, where it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s} s in vain for: {what}"
        time.sleep(0.02)
