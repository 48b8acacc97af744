"""Archiving: moves finished events to the archive. One worker at a time does it, in what time deliveries
leave.
"""

import asyncio
from collections.abc import Coroutine
from time import monotonic, process_time
from typing import Any, TypeVar

import structlog

from shared.errors import ArchiveUnavailable, ArchiveUnfit, StoreUnavailable, StoreUnreadable
from shared.operations.archiving import Archiving
from shared.settings import ArchiveSettings, Config
from shared.store.archive_state import NAMED, ArchiveState, publish
from shared.store.client import RedisClient
from shared.store.clock import now_ms
from shared.store.duties import Duty
from shared.store.finished import Finished
from shared.store.keys import names_digest
from shared.store.upkeep import Upkeep

log = structlog.get_logger()

T = TypeVar("T")

LEASE_MS = 10_000  # writing a batch may take as long
LOOK_S = 1.0
# The most of this worker's time that it takes while Redis has room: of one that has little else to do, and of
# one
# that is busy with deliveries, which it must not slow down by a tenth.
SHARE, BUSY_SHARE = 0.8, 0.07
BUSY = 0.4  # of a processor
LEAST_PAUSE_S = 0.02
PRESSURE = 0.65  # of Redis's memory: above it, finished events of any age are moved, without a pause
STALLED_S = 5.0
PAUSES_S = (1.0, 2.0, 5.0, 10.0)  # after each error in a row


class Archivist:
    """Moves finished events while this worker has the duty."""

    def __init__(self, config: Config, worker: str, client: RedisClient) -> None:
        self._client = client
        self._duty = Duty(client, "archive", worker, lease_ms=LEASE_MS)
        self._finished = Finished(client)
        self._upkeep = Upkeep(client)
        self._archiving: Archiving | None = None
        self._taken_up: Archiving | None = None
        self._settings = ArchiveSettings()
        self._error, self._since_ms, self._errors = "", 0, 0
        self._busy = 0.0
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration from the next round on."""
        self._names = names_digest(
            [source.name for source in config.sources], [target.name for target in config.targets]
        )
        self._hot_ms = config.retention.hot.ms
        if config.archive != self._settings:
            self.close()
            self._settings = config.archive
            url, keys = config.archive.url, config.archive.encryption_keys
            self._archiving = Archiving(self._client, url, keys) if url else None

    async def run(self) -> None:
        """Move what may be moved, until cancelled. Raises: ArchiveUnfit if this version cannot use the
        archive.
        """
        while True:
            pause_s = LOOK_S
            try:
                if self._archiving is not None:
                    await self._take_up(self._archiving)
                    if await self._duty.mine(self._names):
                        pause_s = await self.round(self._archiving)
            except ArchiveUnfit:
                raise
            except StoreUnreadable as error:
                log.error("an event cannot be read, and none is archived", reason=str(error))
            except StoreUnavailable:
                pass  # the sweep logs that
            except Exception as error:  # the next round may not meet it
                log.error("archiving failed", error=type(error).__name__, reason=str(error))
            await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        """Wait, and see how busy this process is with all else meanwhile."""
        began, used = monotonic(), process_time()
        await asyncio.sleep(seconds)
        self._busy = (process_time() - used) / max(monotonic() - began, 0.001)

    async def _take_up(self, archiving: Archiving) -> None:
        if self._taken_up is not archiving:
            self._taken_up = archiving
            try:
                await self._answered(archiving, archiving.take_up())
            except ArchiveUnfit:
                raise
            except ArchiveUnavailable:
                pass  # a round says so

    async def round(self, archiving: Archiving) -> float:
        """Move a batch, and say how it went. Returns the seconds until the next round. Raises:
        StoreUnavailable.
        """
        began = monotonic()
        pressed = await self._upkeep.memory_used() > PRESSURE
        now = await now_ms(self._client)
        before_ms = now if pressed else now - self._hot_ms
        refused, error, more = len(archiving.refused), "", False
        try:
            more = (await self._answered(archiving, archiving.move(before_ms))).more
        except ArchiveUnavailable as failure:
            error = str(failure)
        self._say(error, now)
        if len(archiving.refused) > refused:
            log.error("events cannot be archived, and stay in Redis", events=len(archiving.refused))
        await self._publish(archiving, now)
        if self._errors:
            return PAUSES_S[min(self._errors, len(PAUSES_S)) - 1]
        if not more:
            return LOOK_S
        if pressed:
            return 0.0
        share = BUSY_SHARE if self._busy > BUSY else SHARE
        return max(LEAST_PAUSE_S, (monotonic() - began) * (1 / share - 1))

    async def _answered(self, archiving: Archiving, call: Coroutine[Any, Any, T]) -> T:
        """Return the result of a call to the archive. While that hangs, it is said, and the duty is kept."""
        task = asyncio.create_task(call)
        try:
            while not (await asyncio.wait([task], timeout=STALLED_S))[0]:
                await self._duty.mine(self._names)
                now = await now_ms(self._client)
                self._say("the archive does not answer", now)
                await self._publish(archiving, now)
        finally:
            task.cancel()
        return task.result()

    def _say(self, error: str, now: int) -> None:
        self._errors = self._errors + 1 if error else 0
        if error and error != self._error:
            log.error("nothing is archived: what is finished stays in Redis", reason=error)
        elif self._error and not error:
            log.info("the archive is back")
        if not error or not self._error:
            self._since_ms = now if error else 0
        self._error = error

    async def _publish(self, archiving: Archiving, now: int) -> None:
        backlog = await self._finished.backlog(now - self._hot_ms)
        await publish(
            self._client,
            ArchiveState(
                at_ms=now,
                hot_ms=self._hot_ms,
                error=self._error,
                since_ms=self._since_ms,
                behind=backlog.records,
                oldest_ms=backlog.oldest_ms,
                refused=dict(list(archiving.refused.items())[-NAMED:]),
                refused_in_all=len(archiving.refused),
            ),
        )

    def close(self) -> None:
        """Close the connections to the archive."""
        if self._archiving is not None:
            self._archiving.close()
