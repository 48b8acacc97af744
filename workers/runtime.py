"""The one event loop of a worker process: a thread of its own that does all I/O.

Celery's tasks hand it doorbells and return; admission and deliveries live on it. It also watches that the
process is alive in every part, and ends it where it is not, for the supervisor to start a new one.
"""

import asyncio
import faulthandler
import math
import os
import signal
import socket
import threading
from collections.abc import Coroutine
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

import structlog
import uvloop

from shared.config.reload import ConfigFile
from shared.errors import StoreUnavailable
from shared.http import Egress
from shared.process import garbage, logs
from shared.process.background import END_WITHIN_S, BackgroundTasks, end_process
from shared.store.address import parse_address
from shared.store.bells import Bells
from shared.store.client import RedisClient
from shared.store.doorbell import ADMIT, Doorbell, envelope
from shared.store.due import DueSets
from shared.store.inbox import Inbox
from shared.store.lanes import Lanes
from shared.store.targets import Targets
from shared.store.upkeep import Upkeep
from workers.admit import Admitter
from workers.deliver import Deliverer
from workers.packing import Packing
from workers.reading import ReadingThreads
from workers.retention import Retention
from workers.shares import ShareKeeper
from workers.sweep import Sweeper

log = structlog.get_logger()

T = TypeVar("T")

REDIS_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
GRACE_S = 5.0
WATCH_S = 1.0
READ_AT_MOST_S = 10.0
UNANSWERED_AT_MOST_S = 10.0


class Runtime:
    """Everything that a worker process runs on."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._closing = False
        self._reading = ReadingThreads()
        self._last_answer = monotonic()

    def start(self) -> None:
        """Start the loop thread and what lives on it. Called once, after any fork."""
        # Rendered now: two threads that import parts of Celery at the same time may wait for each other.
        envelope(Doorbell(ADMIT, ""))
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
        self._client = RedisClient(
            parse_address(config.redis.url, config.redis.prefix), timeout_s=REDIS_TIMEOUT_S
        )
        self._egress = Egress(keep_body_bytes=config.retention.max_answer_bytes)
        inbox, upkeep, due = Inbox(self._client), Upkeep(self._client), DueSets(self._client)
        self._bells = bells = Bells(self._client)
        self._deliverer = deliverer = Deliverer(config, due, bells, self._egress)
        self._admitter = Admitter(config, self.name, inbox, bells, upkeep, deliverer, self._reading)
        self._sweeper = Sweeper(
            config,
            self.name,
            upkeep,
            due,
            Targets(self._client),
            Lanes(self._client),
            inbox,
            bells,
            deliverer,
        )
        self._shares = ShareKeeper(config, self.name, self._client)
        self._retention = Retention(config, self.name, self._client)
        self._packing = Packing(config, self.name, self._client)
        self._background = BackgroundTasks()
        self._sweeping = self._background.start("sweep", self._sweeper.run())
        self._background.start("shares", self._shares.run())
        self._background.start("retention", self._retention.run())
        self._background.start("packing", self._packing.run())
        self._watching = self._background.start("watch", self._watch())

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it. For other threads, never for the loop's own."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT_S)

    def reload_soon(self) -> None:
        """Read the configuration file again; returns at once."""
        self._loop.call_soon_threadsafe(self._reload, True)

    def _reload(self, always: bool) -> None:
        if self._file.reload(always=always):
            for part in (
                self._deliverer,
                self._sweeper,
                self._admitter,
                self._shares,
                self._retention,
                self._packing,
            ):
                part.use(self._file.config)

    def answer(self, bell: Doorbell) -> None:
        """Have the loop answer a doorbell that reached this process; returns at once."""
        self._last_answer = monotonic()
        answer = self._admitter.answer if bell.task == ADMIT else self._deliverer.answer
        self._loop.call_soon_threadsafe(answer, bell.place)

    def drop_queued(self) -> str:
        """Drop all that is in Celery's queue, and look at all places that doorbells name. For other threads.

        Returns what was dropped, in words.
        """
        try:
            kind, length = self.call(self._bells.drop_queued())
        except (StoreUnavailable, TimeoutError) as error:
            return f"not dropped: {error}"
        self._loop.call_soon_threadsafe(self._look_everywhere)
        return f"{length} messages" if kind in {"list", "none"} else f"a {kind}"

    def _look_everywhere(self) -> None:
        config = self._file.config
        for source in config.sources:
            self._admitter.answer(source.name)
        for target in config.targets:
            self._deliverer.answer(target.name)

    async def _watch(self) -> None:
        unanswered_since: float | None = None
        while True:
            _end_process_unless_called_within(READ_AT_MOST_S + 2 * WATCH_S)
            await asyncio.sleep(WATCH_S)
            self._reload(False)
            now = monotonic()
            if self._reading.longest_s() > READ_AT_MOST_S:
                end_process("an entry is read without end")
            try:
                waiting = await self._bells.queued() > 0
            except StoreUnavailable:
                waiting = False
            if not waiting or now - self._last_answer < UNANSWERED_AT_MOST_S:
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
        if self._reading.longest_s() > 0.0:
            end_process("an entry is still read after the time to stop")  # Python would wait for its thread

    async def _close(self) -> None:
        self._background.expect_ends()
        self._watching.cancel()
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        self._sweeper.stop()
        await asyncio.gather(self._admitter.drain(GRACE_S), self._deliverer.drain(GRACE_S))
        self._reading.close()
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
