"""The one event loop of a worker process: a thread of its own that does all I/O.

Celery's task threads hand it coroutines and wait; deliveries live on it alone. It also watches that the
process is alive in every part, and ends it where it is not, for the supervisor to start a new one.
"""

import asyncio
import faulthandler
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

import structlog
import uvloop

from shared import garbage, logs
from shared.background import END_WITHIN_S, BackgroundTasks, end_process
from shared.config import Config
from shared.egress import Egress
from shared.errors import StoreUnavailable
from shared.reload import ConfigFile
from shared.store.address import parse_address
from shared.store.bells import Bells
from shared.store.due import DueSets
from shared.store.inbox import Inbox
from shared.store.pipelined import PipelinedClient
from shared.store.targets import Targets
from shared.store.upkeep import Upkeep
from workers.deliver import Deliverer
from workers.sweep import Sweeper

log = structlog.get_logger()

T = TypeVar("T")

REDIS_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
GRACE_S = 5.0
WATCH_S = 1.0
BATCH_AT_MOST_S = 10.0
UNANSWERED_AT_MOST_S = 10.0


class Runtime:
    """Everything that a worker process runs on."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self._users: list[Callable[[Config], None]] = []
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._closing = False
        self._batches: dict[int, float] = {}
        self._last_answer = monotonic()

    def start(self) -> None:
        """Start the loop thread and what lives on it. Called once, after any fork."""
        self._thread.start()
        self.call(self._open())
        garbage.settle()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            if not self._closing:
                end_process("the event loop ended")

    async def _open(self) -> None:
        config = self._file.config
        self._client = PipelinedClient(parse_address(config.redis.url), timeout_s=REDIS_TIMEOUT_S)
        self._egress = Egress(keep_body_bytes=config.retention.max_answer_bytes)
        self.inbox = Inbox(self._client)
        self.bells = Bells(self._client)
        self.upkeep = upkeep = Upkeep(self._client)
        due = DueSets(self._client)
        self.deliverer = Deliverer(config, due, self.bells, self._egress)
        self._sweeper = Sweeper(
            config, self.name, upkeep, due, Targets(self._client), self.inbox, self.bells, self.deliverer
        )
        self._background = BackgroundTasks()
        self._sweeping = self._background.start("sweep", self._sweeper.run())
        self._watching = self._background.start("watch", self._watch())

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it. For task threads, never for the loop's own."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT_S)

    def on_reload(self, use: Callable[[Config], None]) -> None:
        """Have `use` called, on the loop's thread, with every configuration that is taken up."""
        self._users.append(use)

    def reload_soon(self) -> None:
        """Read the configuration file again; returns at once."""
        self._loop.call_soon_threadsafe(self._reload, True)

    def _reload(self, always: bool) -> None:
        if self._file.reload(always=always):
            for use in (self.deliverer.use, self._sweeper.use, *self._users):
                use(self._file.config)

    def answer(self, target: str) -> None:
        """Have the loop answer a delivery's doorbell; returns at once."""
        self._loop.call_soon_threadsafe(self.deliverer.answer, target)

    def answering(self) -> None:
        """A doorbell reached this process."""
        self._last_answer = monotonic()

    def batch_started(self) -> None:
        """The calling thread starts on code that may never come back: adapters and filters."""
        self._batches[threading.get_ident()] = monotonic()

    def batch_ended(self) -> None:
        """The calling thread came back."""
        self._batches.pop(threading.get_ident(), None)
        self._last_answer = monotonic()

    async def _watch(self) -> None:
        unanswered_since: float | None = None
        while True:
            _end_process_unless_called_within(BATCH_AT_MOST_S + 2 * WATCH_S)
            await asyncio.sleep(WATCH_S)
            self._reload(False)
            now = monotonic()
            for started in list(self._batches.values()):
                if now - started > BATCH_AT_MOST_S:
                    end_process("an admission batch does not end")
            try:
                waiting = await self.bells.queued() > 0
            except StoreUnavailable:
                waiting = False
            if not waiting or self._batches or now - self._last_answer < UNANSWERED_AT_MOST_S:
                unanswered_since = None
            elif unanswered_since is None:
                unanswered_since = now
            elif now - unanswered_since > UNANSWERED_AT_MOST_S:
                end_process("doorbells wait and none reaches this worker")

    def close(self) -> None:
        """Stop claiming, give what is in flight its grace, hand the rest back, and end the loop.

        Nothing happens where it never started, or was closed before.
        """
        if not self._thread.is_alive():
            return
        try:
            self.call(self._close())
        finally:
            self._closing = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(1.0)

    async def _close(self) -> None:
        self._background.expect_ends()
        self._watching.cancel()
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        self._sweeper.stop()
        await self.deliverer.drain(GRACE_S)
        await asyncio.wait([self._sweeping], timeout=1.0)  # it may be amid a call to a Redis that is away
        await self._background.stop()
        await self._egress.close()
        await self._client.close()


def _end_process_unless_called_within(seconds: float) -> None:
    """End this process after a time, unless this is called again before: if even the loop stands still.

    That takes a thread that never gives up the GIL. A timer in C says where each thread is; and should nobody
    read that, so that it waits, the kernel ends the process.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=logs.fileno())
    signal.alarm(math.ceil(seconds) + END_WITHIN_S)
