"""A thread that runs an asyncio loop. A worker's I/O happens there; Celery's threads only call it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import uvloop

from shared.process.background import end_process

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CALL_TIMEOUT_S = 30.0


class LoopThread:
    """One event loop in one thread. If the loop ends before `close`, the process ends."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._closing = False

    def start(self) -> None:
        """Start the thread. Call it once, after any fork."""
        self._loop = uvloop.new_event_loop()
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread was started and has not ended."""
        return self._thread.is_alive()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and return its result. Only other threads may call it.

        Raises: TimeoutError after `CALL_TIMEOUT_S`, and what the coroutine raises.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT_S)

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Have the loop call `callback`; returns at once. Only other threads may call it."""
        self._loop.call_soon_threadsafe(callback, *args)

    def close(self) -> None:
        """Stop the loop and wait a second for its thread."""
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            if not self._closing:
                end_process("the event loop ended")
