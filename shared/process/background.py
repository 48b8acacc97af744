"""Background tasks: each has one owner, and the end of each is noticed.

asyncio keeps the error of a task that nobody awaits until the task is collected, and a process whose sweep
has ended looks alive and does nothing. So a task that is meant to run as long as its process is started here.
If such a task ends, the process ends, and its supervisor starts a new one.
"""

import asyncio
import faulthandler
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from shared.process import logs

log = structlog.get_logger()

EXIT_UNHEALTHY = 70
"""The exit code of a process that ended itself because it could not go on."""

END_WITHIN_S = 5


class BackgroundTasks:
    """The background tasks of one event loop."""

    def __init__(self, died: Callable[[str], None] | None = None) -> None:
        """`died` is called with a reason when a task ends before `stop`; by default the process ends."""
        self._died = died or end_process
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def start(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that is meant to run until `stop`."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def stop(self, within_s: float = 1.0) -> None:
        """Cancel every task and wait for their ends."""
        self.expect_ends()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    def expect_ends(self) -> None:
        """From now on a task may end, because the process is stopping."""
        self._stopping = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Also while stopping: asyncio prints an error that nobody retrieved when the task is collected.
        error = None if task.cancelled() else task.exception()
        if not self._stopping:
            how = "it was cancelled" if task.cancelled() else "it returned"
            what = type(error).__name__ if error else how
            self._died(f"the background task {task.get_name()} ended: {what}")


def end_process(why: str) -> None:
    """End this process at once, and log why and where each thread was. Values are not logged."""
    # If anything keeps us from the last line below, the kernel ends the process.
    signal.alarm(END_WITHIN_S)
    log.critical("unhealthy, ending this process", reason=why, stack=stacks())
    logs.flush()
    os._exit(EXIT_UNHEALTHY)


def stacks() -> str:
    """Return the stack of each thread of this process: files, lines and functions, without values."""
    try:
        # A pipe that does not block takes what fits; a file would need room on the disk.
        reader, writer = os.pipe()
    except OSError:
        return ""  # no file descriptor is left
    os.set_blocking(writer, False)
    with open(reader, "rb") as written:
        with open(writer, "wb") as end:
            faulthandler.dump_traceback(file=end)
        return written.read().decode(errors="replace")
