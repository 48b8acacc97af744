"""The parts of a worker process, and how they start, reload and stop together."""

import asyncio
import os
import socket
from uuid import uuid4

from shared.config.reload import ConfigFile
from shared.errors import ArchiveUnfit, StoreUnavailable, StoreUnfit
from shared.http import Egress
from shared.process import garbage
from shared.process.background import BackgroundTasks, end_process
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
from workers.archiving import Archivist
from workers.deliver import Deliverer
from workers.keeping import Keeper
from workers.loop import LoopThread
from workers.packing import Packing
from workers.reading import ReadingThreads
from workers.refusal import end_refused
from workers.retention import Retention
from workers.shares import ShareKeeper
from workers.sweep import Sweeper
from workers.watchdog import Watchdog

REDIS_TIMEOUT_S = 5.0
GRACE_S = 5.0
LOOK_AT_FILE_S = 1.0


class Runtime:
    """The parts of a worker process, all of which live on one event loop."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._reading = ReadingThreads()
        self.loop = LoopThread()

    def start(self) -> None:
        """Start the loop and all parts. Call it once, after any fork."""
        # Rendered now: two threads that import parts of Celery at the same time may wait for each other.
        envelope(Doorbell(ADMIT, ""))
        self.loop.start()
        self.loop.call(self._open())
        garbage.settle()

    async def _open(self) -> None:
        config = self._file.config
        self._client = RedisClient(
            parse_address(config.redis.url, config.redis.prefix), timeout_s=REDIS_TIMEOUT_S
        )
        self._egress = Egress(keep_body_bytes=config.retention.max_answer_bytes)
        inbox, upkeep, due = Inbox(self._client), Upkeep(self._client), DueSets(self._client)
        self._bells = bells = Bells(self._client)
        self._watchdog = Watchdog(bells, self._reading)
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
        self._archivist = Archivist(config, self.name, self._client)
        self._keeper = Keeper(config, self.name, self._client)
        self._background = BackgroundTasks()
        self._sweeping = self._background.start("sweep", self._sweeper.run())
        self._background.start("shares", self._shares.run())
        self._background.start("retention", self._retention.run())
        self._background.start("packing", self._pack())
        self._background.start("archive", self._archive())
        self._background.start("keep", self._keeper.run())
        self._background.start("configuration file", self._follow_file())
        self._watching = self._background.start("watch", self._watchdog.run())

    async def _pack(self) -> None:
        try:
            await self._packing.run()
        except StoreUnfit as error:
            end_refused(error)

    async def _archive(self) -> None:
        try:
            await self._archivist.run()
        except ArchiveUnfit as error:
            end_refused(error)

    def reload_soon(self) -> None:
        """Read the configuration file again, whether it changed or not; returns at once."""
        self.loop.call_soon(self._reload, True)

    async def _follow_file(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_FILE_S)
            self._reload(False)

    def _reload(self, always: bool) -> None:
        if self._file.reload(always=always):
            for part in (
                self._deliverer,
                self._sweeper,
                self._admitter,
                self._shares,
                self._retention,
                self._packing,
                self._archivist,
                self._keeper,
            ):
                part.configure(self._file.config)

    def look_at(self, bell: Doorbell) -> None:
        """Have the loop look at the place that a doorbell names; returns at once.

        Celery's threads call it.
        """
        self._watchdog.doorbell_came()
        part = self._admitter if bell.task == ADMIT else self._deliverer
        self.loop.call_soon(part.look_at, bell.place)

    def drop_queued(self) -> str:
        """Drop all that is in Celery's queue, and look at all places that doorbells name.

        Returns what was dropped, as text. Celery's threads call it.
        """
        try:
            kind, length = self.loop.call(self._bells.drop_queued())
        except (StoreUnavailable, TimeoutError) as error:
            return f"not dropped: {error}"
        self.loop.call_soon(self._look_everywhere)
        return f"{length} messages" if kind in {"list", "none"} else f"a {kind}"

    def _look_everywhere(self) -> None:
        for source in self._file.config.sources:
            self._admitter.look_at(source.name)
        for target in self._file.config.targets:
            self._deliverer.look_at(target.name)

    def close(self) -> None:
        """Stop claiming, wait for attempts in flight for the grace period, hand the rest back, and end the
        loop.

        Does nothing if it was not started, or was closed before.
        """
        if not self.loop.is_running:
            return
        try:
            self.loop.call(self._close())
        finally:
            self.loop.close()
        if self._reading.longest_s() > 0.0:
            end_process("an entry is still read after the time to stop")  # Python would wait for it

    async def _close(self) -> None:
        self._background.expect_ends()
        self._watching.cancel()  # the rest may take longer than the watchdog allows
        self._sweeper.stop()
        await asyncio.gather(self._admitter.drain(GRACE_S), self._deliverer.drain(GRACE_S))
        self._reading.close()
        await asyncio.wait([self._sweeping], timeout=1.0)  # it may be waiting for a Redis that is away
        await self._background.stop()
        await self._egress.close()
        self._archivist.close()
        self._keeper.close()
        await self._client.close()
