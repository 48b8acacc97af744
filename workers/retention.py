"""Retention: removes records that are past their age, and under memory pressure finished events of any age.

One worker at a time does it, apart from the sweep, in many short calls: neither Redis nor retries wait for
it, and while memory is short it goes on without a pause.
"""

import asyncio
from time import monotonic

import msgspec
import structlog

from shared.errors import StoreUnavailable
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.duties import Duty
from shared.store.keys import names_digest
from shared.store.targets import Targets
from shared.store.upkeep import REMOVE_AT_ONCE, Removed, Upkeep

log = structlog.get_logger()

LEASE_MS = 2000
LOOK_S = 1.0
LOOK_OFTEN_S = 0.1
OFTEN = 0.50  # of memory: above it a second is long, as at the top rate a small Redis fills in five
REMOVE_S = 5.0
ROUND_S = 0.5
SAY_S = 60.0
PRESSURE, RELIEVED = 0.70, 0.65
"""Shares of `maxmemory`: above the first, finished events are removed until the second is reached.

Ingress refuses at 0.80 (`ingress/acceptance.py`); the difference is room for events that come in between two
looks.
"""


class Retention:
    """Removes records while this worker has the duty."""

    def __init__(self, config: Config, worker: str, client: RedisClient) -> None:
        self._duty = Duty(client, "retention", worker, lease_ms=LEASE_MS)
        self._upkeep = Upkeep(client)
        self._targets = Targets(client)
        self._under_pressure = False
        self._remove_at = self._say_at = 0.0
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration from the next round on."""
        self._events_ms = config.retention.events.ms
        self._archives = bool(config.archive.url)  # then it moves finished events, and none is removed before
        self._dead_letters_ms = config.retention.dead_letters.ms
        self._sources = [source.name for source in config.sources]
        self._known = [target.name for target in config.targets]
        self._names = names_digest(self._sources, self._known)

    async def run(self) -> None:
        """Remove what may be removed, until cancelled."""
        while True:
            pause_s = LOOK_S
            try:
                if await self._duty.mine(self._names):
                    pause_s = await self.round()
            except StoreUnavailable:
                pass  # the sweep logs that
            except Exception as error:  # the next round may not meet it
                log.error("retention failed", error=type(error).__name__, reason=str(error))
            await asyncio.sleep(pause_s)

    async def round(self) -> float:
        """Remove what may be removed, for at most ROUND_S. Returns the seconds until the next round.

        Raises: StoreUnavailable.
        """
        now = monotonic()
        used = await self._look()
        if not self._under_pressure and now < self._remove_at:
            return LOOK_OFTEN_S if used > OFTEN else LOOK_S
        # Dead letters of a removed target expire, too.
        names = list(dict.fromkeys([*self._known, *await self._targets.on_record()]))
        removed, more = Removed(), True
        while more and monotonic() < now + ROUND_S:
            part = await self._upkeep.retain(
                names,
                events_ms=self._events_ms,
                dead_letters_ms=self._dead_letters_ms,
                under_pressure=self._under_pressure,
                archives=self._archives,
            )
            removed += part
            more = part.total == REMOVE_AT_ONCE
            if self._under_pressure:
                used = await self._look()
        self._remove_at = now if more else now + REMOVE_S  # with more to remove, the next round goes on
        self._say(removed, used)
        if self._under_pressure and not more and now >= self._say_at:
            self._say_at = now + SAY_S
            held = msgspec.structs.asdict(await self._upkeep.holding(self._sources))
            log.error("memory is held by what retention may not remove", memory=round(used, 3), **held)
        return LOOK_OFTEN_S if used > OFTEN else LOOK_S

    async def _look(self) -> float:
        used = await self._upkeep.memory_used()
        self._under_pressure = used > (RELIEVED if self._under_pressure else PRESSURE)
        return used

    def _say(self, removed: Removed, used: float) -> None:
        if removed.dead_letters or removed.quarantined:
            log.warning(
                "retention removed what nobody took care of",
                dead_letters=removed.dead_letters,
                quarantined=removed.quarantined,
            )
        if removed.events or removed.duplicates:
            log.info("retention", events=removed.events, duplicates=removed.duplicates, memory=round(used, 3))
