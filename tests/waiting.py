"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], what: str, *, within_s: float = 20) -> None:
    """Wait until `condition` holds; fail, naming `what`, where it does not in time."""
    deadline = time.monotonic() + within_s
    while True:
        began = time.monotonic()
        if condition():
            return
        looked = time.monotonic()
        assert looked < deadline, f"waited {within_s} s in vain for: {what}"
        # What takes long to look at is looked at less often: the processes it waits for need the machine.
        time.sleep(min(0.02 + 2 * (looked - began), 0.5))
