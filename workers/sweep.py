"""The sweep: rings for work that waits, and puts back claims whose lease has run out.

Every worker runs it about once a second. Among workers with the same names in their configuration, one at a
time does the work, so there is no single process whose death stops retries.
"""

import asyncio
from contextlib import suppress
from time import monotonic

import structlog

from shared.delivery.verdicts import REMOVED, GivenUp, Reason
from shared.errors import StoreDenied, StoreUnavailable
from shared.settings import Config
from shared.store.bells import Bells
from shared.store.doorbell import ADMIT, DELIVER, Doorbell
from shared.store.due import LEASE_BEYOND_TIMEOUT_MS, DueSets
from shared.store.inbox import Inbox
from shared.store.lanes import Lanes
from shared.store.targets import State, Targets
from shared.store.upkeep import Upkeep
from shared.values import duration_text
from workers.deliver import Deliverer

log = structlog.get_logger()

SWEEP_S = 1.0
KNOW_S = 30.0
PAUSED_AT_MOST_S = 7 * 86_400
TIDY_S = 600.0
FIND_HELD_S = 3600.0


class Sweeper:
    """The sweep of one worker."""

    def __init__(
        self,
        config: Config,
        worker: str,
        upkeep: Upkeep,
        due: DueSets,
        targets: Targets,
        lanes: Lanes,
        inbox: Inbox,
        bells: Bells,
        deliverer: Deliverer,
    ) -> None:
        self._worker = worker
        self._upkeep = upkeep
        self._due = due
        self._targets = targets
        self._lanes = lanes
        self._inbox = inbox
        self._bells = bells
        self._deliverer = deliverer
        self._know_at = self._find_held_at = 0.0
        self._tidy_at = monotonic() + TIDY_S
        self._stopped = asyncio.Event()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration from the next round on."""
        self._sources = [source.name for source in config.sources]
        self._leases_ms = {
            target.name: target.timeout.ms + LEASE_BEYOND_TIMEOUT_MS for target in config.targets
        }
        self._holding = {target.name for target in config.targets if target.holds}

    async def run(self) -> None:
        """Sweep until `stop`. It goes on after Redis was away."""
        away = False
        while not self._stopped.is_set():
            pause_s = SWEEP_S
            try:
                if await self._upkeep.may_sweep(self._worker, self._sources, self._leases_ms):
                    began = monotonic()
                    await self.sweep()
                    pause_s -= min(monotonic() - began, SWEEP_S)  # a long sweep shortens the pause after it
                if away:
                    log.info("Redis is back")
                away = False
            except StoreUnavailable as error:
                if not away and isinstance(error, StoreDenied):
                    log.error("Redis refuses this worker", reason=str(error))
                elif not away:
                    log.warning("Redis is away", reason=str(error))
                away = True
            except Exception as error:  # if the sweep ended, retries would end
                log.error("sweep failed", error=type(error).__name__, reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopped.wait()

    def stop(self) -> None:
        """End after the sweep under way: cancelling it would break its connection, which other calls use."""
        self._stopped.set()

    async def sweep(self) -> None:
        """Sweep once. Raises: StoreUnavailable."""
        waiting = await self._upkeep.waiting(self._sources, list(self._leases_ms))
        for target in waiting.lapsed:
            await self._release(target)
        for blocked in waiting.blocked:
            state, _, target = blocked.partition(" ")
            await self._give_up(State(state), target)
        for target in waiting.held:
            if target not in self._holding:
                await self._let_go(target)
        await self._bells.ring(Doorbell(ADMIT, source) for source in waiting.sources)
        await self._bells.ring(Doorbell(DELIVER, target) for target in {*waiting.due, *waiting.lapsed})
        now = monotonic()
        if now >= self._know_at:
            self._know_at = now + KNOW_S
            await self._remove_forgotten()
        if now >= self._find_held_at:
            self._find_held_at = now + FIND_HELD_S
            for target in dict.fromkeys([*self._leases_ms, *await self._targets.on_record()]):
                await self._lanes.find(target)
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_S
            for source in self._sources:
                await self._inbox.tidy(source)

    async def _release(self, target: str) -> None:
        back, spent = await self._due.release(target, lease_ms=self._leases_ms[target])
        log.warning("leases ran out", target=target, put_back=back, charged=len(spent))
        for claimed in spent:
            # The script has just made the lease by Redis's time: this machine's clock has no effect.
            self._deliverer.finish_lapsed(claimed, claimed.token - self._leases_ms[target])

    async def _give_up(self, state: State, target: str) -> None:
        """Make dead letters of what waits for a disabled target, and of what waited too long in a pause."""
        since_ms, why = await self._targets.stopped(target)
        before_ms: int | None = None
        if state is State.DISABLED:
            reason = Reason(GivenUp.DISABLED, f"disabled: {why}" if why else "disabled")
        else:
            before_ms = await self._upkeep.now_ms() - PAUSED_AT_MOST_S * 1000
            if since_ms > before_ms:
                return  # before the pause, it waited for something else
            reason = Reason(GivenUp.AGE, f"paused for more than {duration_text(PAUSED_AT_MOST_S)}")
        count = await self._targets.give_up(
            target,
            due_before_ms=before_ms,
            reason=reason,
            hold=target in self._holding,
            state=state,
        )
        if count:
            log.warning("gave up deliveries", target=target, reason=reason.text, dead_letters=count)

    async def _let_go(self, target: str) -> None:
        """Release transactions that dead letters held before the configuration said `continue`."""
        count = await self._lanes.let_go(target)
        if count:
            log.info("let held transactions go on", target=target, transactions=count)
            await self._bells.ring([Doorbell(DELIVER, target)])

    async def _remove_forgotten(self) -> None:
        """Remove targets that no live process has had for five minutes."""
        for target in await self._targets.know(self._leases_ms):
            # Nothing else puts back the claims of a worker that died.
            await self._due.release(target, lease_ms=LEASE_BEYOND_TIMEOUT_MS)
            count = await self._targets.give_up_all(target)
            if count:
                log.warning("gave up deliveries", target=target, reason=REMOVED.text, dead_letters=count)
            await self._targets.forget(target)
