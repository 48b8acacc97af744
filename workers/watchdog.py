"""Ends a worker process if a part of it stands still, so that its supervisor starts a new one.

Three parts are watched: the event loop, the threads that read entries, and Celery's consumer of doorbells.
"""

import asyncio
import faulthandler
import math
import signal
from time import monotonic

from shared.errors import StoreUnavailable
from shared.process import logs
from shared.process.background import END_WITHIN_S, end_process
from shared.store.bells import Bells
from workers.reading import ReadingThreads

WATCH_S = 1.0
READ_AT_MOST_S = 10.0
IGNORED_AT_MOST_S = 10.0


class Watchdog:
    """Checks each part once a second. It runs on the loop, which is watched, too."""

    def __init__(self, bells: Bells, reading: ReadingThreads) -> None:
        self._bells = bells
        self._reading = reading
        self._last_doorbell = monotonic()

    def doorbell_came(self) -> None:
        """Record that Celery has passed a doorbell to this process. Any thread may call it."""
        self._last_doorbell = monotonic()

    async def run(self) -> None:
        """Watch until cancelled."""
        ignored_since: float | None = None
        try:
            while True:
                _end_process_unless_called_within(READ_AT_MOST_S + 2 * WATCH_S)
                await asyncio.sleep(WATCH_S)
                if self._reading.longest_s() > READ_AT_MOST_S:
                    end_process("an entry is read without end")
                try:
                    waiting = await self._bells.queued() > 0
                except StoreUnavailable:
                    waiting = False
                now = monotonic()
                if not waiting or now - self._last_doorbell < IGNORED_AT_MOST_S:
                    ignored_since = None
                elif ignored_since is None:
                    ignored_since = now
                elif now - ignored_since > IGNORED_AT_MOST_S:
                    end_process("doorbells wait and none reaches this worker")
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.alarm(0)


def _end_process_unless_called_within(seconds: float) -> None:
    """End this process after `seconds` unless this is called again before, even if the loop stands still.

    That happens if a thread never gives up the GIL. Then a timer in C writes the stack of each thread. If
    nobody reads the log, that write waits, and the kernel ends the process.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=logs.fileno())
    signal.alarm(math.ceil(seconds) + END_WITHIN_S)
