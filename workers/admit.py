"""Inbox → normalise, dedupe, match → one atomic admission. Runs on the worker's loop; reading has threads."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import NamedTuple, TypeAlias
from uuid import uuid4

import structlog

from shared.errors import StoreUnavailable
from shared.routing.reading import ADAPTER_FAILED, POISON, Reader
from shared.settings import Config
from shared.store.admission import Admission, AdmissionOptions, Entry, Outcome, Quarantine, parts
from shared.store.bells import Bells
from shared.store.doorbell import ADMIT, Doorbell
from shared.store.inbox import Inbox
from shared.store.upkeep import Upkeep
from workers.deliver import Deliverer
from workers.reading import ReadingThreads

log = structlog.get_logger()

TAKES_ALONE = 3
IN_TURN_S = 0.25
LOOK_BACK_S = 1.0


Batch: TypeAlias = Sequence[Admission | Quarantine]


class Setup(NamedTuple):
    """The parts of a configuration that admission uses. A batch is read and admitted by the same one."""

    reader: Reader
    retention_ms: int


class Admitter:
    """Admits requests from the inboxes of this process's sources, with one task for each source that has
    work.
    """

    def __init__(
        self,
        config: Config,
        worker: str,
        inbox: Inbox,
        bells: Bells,
        upkeep: Upkeep,
        deliverer: Deliverer,
        reading: ReadingThreads,
    ) -> None:
        self._worker = worker
        self._inbox = inbox
        self._bells = bells
        self._upkeep = upkeep
        self._deliverer = deliverer
        self._reading = reading
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._rung: set[str] = set()
        self._stopping = False
        self._looked_back: dict[str, float] = {}
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration from the next batch on."""
        self._setup = Setup(Reader(config), config.copies_ms)

    def look_at(self, source: str) -> None:
        """Admit what waits in a source's inbox; returns at once. An unknown source is left alone."""
        if self._stopping or not self._setup.reader.knows(source):
            return
        self._rung.add(source)
        if source not in self._tasks:
            self._tasks[source] = asyncio.get_running_loop().create_task(self._run(source))

    async def drain(self, grace_s: float) -> None:
        """Take no more, and wait for the batches under way.

        Another worker takes over what is not admitted then.
        """
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace_s)

    async def _run(self, source: str) -> None:
        """Admit until nothing waits, and no doorbell has rung meanwhile."""
        try:
            more = False
            while not self._stopping and (more or source in self._rung):
                setup, rung = self._setup, source in self._rung
                self._rung.discard(source)
                if not setup.reader.knows(source):
                    break
                if setup.reader.in_turn(source):
                    more = await self._admit_in_turn(setup, source)
                else:
                    more = await self._admit_one_batch(setup, source, rung)
                    await self._look_back(setup, source)
        except StoreUnavailable as error:
            # Entries that were taken stay pending, and are taken over; the sweep rings for those that wait.
            log.warning("admission failed", source=source, reason=str(error))
        except Exception as error:
            log.error("admission failed", source=source, error=type(error).__name__, exc_info=True)
        finally:
            del self._tasks[source]
            self._rung.discard(source)

    async def _admit_one_batch(self, setup: Setup, source: str, rung: bool) -> bool:
        """Take and admit one batch. Returns whether more may wait. Raises: StoreUnavailable."""
        bell = Doorbell(ADMIT, source)
        most = self._inbox.most(source)
        entries = await self._inbox.take(source, self._worker, rung_by=bell if rung else None)
        more = len(entries) >= most
        if more:
            await self._bells.ring([bell])  # so that other workers join in
        if entries:
            await self._admit(setup, source, entries)
        return more

    async def _admit_in_turn(self, setup: Setup, source: str) -> bool:
        """Admit for an ordered target: one batch at a time fleet-wide, in the inbox's order.

        If another worker has the turn, this returns: that worker reads the inbox again after each batch, so
        requests that come meanwhile need no doorbell.

        Returns whether more may wait. Raises: StoreUnavailable.
        """
        holder = f"{self._worker}:{uuid4().hex}"
        entries = await self._inbox.begin_turn(source, holder)
        if entries is None:
            return False
        until, more, waiting = monotonic() + IN_TURN_S, True, 0
        try:
            while entries:
                more = monotonic() < until and not self._stopping
                if entries[0].takes_alone > TAKES_ALONE:
                    batch: Batch = [_poison(entries[0])]
                    entries = await self._commit(setup, source, batch, perf_counter(), holder, more)
                else:
                    entries = await self._admit(setup, source, entries, holder, more)
        finally:
            if entries or not more:  # else the turn has ended, as nothing was found
                waiting = await self._inbox.end_turn(source, holder)
        return waiting > 0

    async def _look_back(self, setup: Setup, source: str) -> None:
        """Admit what dead workers left behind: each entry alone, so that poison takes no neighbour along."""
        now = monotonic()
        if now - self._looked_back.get(source, -LOOK_BACK_S) < LOOK_BACK_S:
            return
        self._looked_back[source] = now
        while not self._stopping and (entry := await self._inbox.take_over(source, self._worker)):
            if entry.takes_alone > TAKES_ALONE:
                await self._commit(setup, source, [_poison(entry)], perf_counter())
            else:
                await self._admit(setup, source, [entry])

    async def _admit(
        self,
        setup: Setup,
        source: str,
        entries: Sequence[Entry],
        fence: str = "",
        take_next: bool = False,
    ) -> list[Entry]:
        """Read entries, and admit together those that were read together.

        With `take_next`, also takes what comes next in turn, and returns it.
        """
        while True:
            started = perf_counter()
            batch = await self._reading.read(setup.reader, entries)
            entries = entries[len(batch) :]
            *before, last = parts(batch)
            for part in before:  # each only after the one before it: they may be in order
                await self._commit(setup, source, part, started, fence)
            taken = await self._commit(setup, source, last, started, fence, take_next and not entries)
            if not entries:
                return taken

    async def _commit(
        self,
        setup: Setup,
        source: str,
        batch: Batch,
        started: float,
        fence: str = "",
        take_next: bool = False,
    ) -> list[Entry]:
        """Admit one of the `parts` of what was read; with `take_next` also take what comes next in turn, and
        return it.
        """
        reader = setup.reader
        options = AdmissionOptions(
            reader.window_ms(source), setup.retention_ms, fence, reader.resend_ms(source)
        )
        # Now, and not after the reply: scripts run in the order in which they are sent, so the claim finds
        # what this admits. What this process cannot take, it rings for.
        for target in {name for item in batch if isinstance(item, Admission) for name in item.targets}:
            self._deliverer.kick(target)
        entries: list[Entry] = []
        if take_next:
            outcomes, entries = await self._inbox.admit_and_take_in_turn(source, batch, options)
        else:
            outcomes = await self._inbox.admit(source, batch, options)
        self._deliverer.admitted(
            (item.event, item.targets)
            for item, outcome in zip(batch, outcomes, strict=True)
            if isinstance(item, Admission) and outcome.what == "admitted"
        )
        unknown = sum(
            isinstance(item, Admission) and item.unknown and outcome.what == "admitted"
            for item, outcome in zip(batch, outcomes, strict=True)
        )
        if unknown:  # no mapping knows the type: an operator should know
            await self._upkeep.count_unknown(source, unknown)
        _log(source, batch, outcomes, started, unknown)
        return entries


def _poison(entry: Entry) -> Quarantine:
    return Quarantine(entry, POISON, f"{TAKES_ALONE} workers in turn took it alone and died or were ended")


def _log(source: str, batch: Batch, outcomes: Sequence[Outcome], started: float, unknown: int) -> None:
    counts = Counter(outcome.what for outcome in outcomes)
    reasons = sorted({item.code for item in batch if isinstance(item, Quarantine)})
    for item in batch:
        if isinstance(item, Quarantine) and item.code == ADAPTER_FAILED:
            log.error("adapter failed", source=source, event_id=item.entry.id, reason=item.detail)
    # Its body differs, so it may be another event, suppressed by mistake: an operator should look.
    differing = sum(outcome.differs for outcome in outcomes)
    (log.warning if differing else log.info)(
        "admitted",
        source=source,
        entries=len(batch),
        **counts,
        differing=differing or None,
        unknown=unknown or None,
        event_id=batch[0].entry.id if len(batch) == 1 else None,
        reasons=reasons or None,
        duration_ms=round((perf_counter() - started) * 1000, 2),
    )
