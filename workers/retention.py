"""Retention: removes what is older than it is kept, and under memory pressure what is finished.

A part of the sweep. It works in many short calls and for a bounded time, so that neither Redis nor the
sweep's other duties wait for it.
"""

import asyncio
from time import monotonic

import msgspec
import structlog

from shared.config import Config
from shared.store.targets import Targets
from shared.store.upkeep import REMOVE_AT_ONCE, Removed, Upkeep

log = structlog.get_logger()

LOOK_S = 5.0
BUDGET_S = 0.5
SAY_S = 60.0
PRESSURE, RELIEVED = 0.70, 0.65
"""Shares of `maxmemory`: above the first, finished events go until the second is reached. Ingress refuses at
0.80 (`ingress/commit.py`): what lies between is room for what comes in between two sweeps."""


class Retention:
    """What one worker's sweep does for retention."""

    def __init__(self, config: Config, upkeep: Upkeep, targets: Targets) -> None:
        self._upkeep = upkeep
        self._targets = targets
        self._under_pressure = False
        self._look_at = self._say_at = 0.0
        self.use(config)

    def use(self, config: Config) -> None:
        """Take up a configuration, from the next round on."""
        self._events_ms = config.retention.events.ms
        self._dead_letters_ms = config.retention.dead_letters.ms
        self._sources = [source.name for source in config.sources]
        self._known = [target.name for target in config.targets]

    async def run(self, stopped: asyncio.Event) -> None:
        """Remove what may go, for BUDGET_S at most or until `stopped` is set.

        Raises: StoreUnavailable.
        """
        now = monotonic()
        used = await self._look()
        if not self._under_pressure and now < self._look_at:
            return
        # Dead letters of a target that was removed expire as any others.
        names = list(dict.fromkeys([*self._known, *await self._targets.on_record()]))
        removed, more = Removed(), True
        while more and not stopped.is_set() and monotonic() < now + BUDGET_S:
            part = await self._upkeep.retain(
                names,
                events_ms=self._events_ms,
                dead_letters_ms=self._dead_letters_ms,
                under_pressure=self._under_pressure,
            )
            removed += part
            more = part.total == REMOVE_AT_ONCE
            if self._under_pressure:
                used = await self._look()
        self._look_at = now if more else now + LOOK_S  # with more to remove, the next sweep goes on
        self._say(removed, used)
        if self._under_pressure and not more and now >= self._say_at:
            self._say_at = now + SAY_S
            held = msgspec.structs.asdict(await self._upkeep.holding(self._sources))
            log.error("memory is held by what retention may not remove", memory=round(used, 3), **held)

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
