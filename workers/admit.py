"""Inbox → normalise, dedupe, match → one atomic admission. Runs in Celery's task threads."""

from collections import Counter
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import NamedTuple, TypeAlias
from uuid import uuid4

import structlog

from shared.config import Config
from shared.doorbell import ADMIT, Doorbell
from shared.reading import ADAPTER_FAILED, POISON, Reader
from shared.store.admission import Admission, Entry, Outcome, Quarantine, Terms
from shared.store.inbox import TAKE_MOST
from workers.runtime import Runtime

log = structlog.get_logger()

TAKES_ALONE = 3
ROUNDS = 16
IN_TURN_S = 0.25
LOOK_BACK_S = 1.0


Batch: TypeAlias = Sequence[Admission | Quarantine]


class Setup(NamedTuple):
    """What a configuration says about admission; a doorbell is answered with one of it from end to end."""

    reader: Reader
    retention_ms: int


class Admitter:
    """Admits what waits in the inboxes of this process's sources."""

    def __init__(self, config: Config, runtime: Runtime) -> None:
        self._runtime = runtime
        self._looked_back: dict[str, float] = {}
        self.use(config)

    def use(self, config: Config) -> None:
        """Take up a configuration, from the next doorbell on."""
        self._setup = Setup(Reader(config), config.retention.events.ms)

    def answer(self, source: str) -> None:
        """Answer a doorbell: admit what waits, at most `ROUNDS` batches; unknown sources are left alone.

        Raises: StoreUnavailable.
        """
        self._runtime.answering()
        setup = self._setup
        if not setup.reader.knows(source):
            return
        bell = Doorbell(ADMIT, source)
        if setup.reader.in_turn(source):
            self._answer_in_turn(setup, source, bell)
            return
        inbox = self._runtime.inbox
        answered: Doorbell | None = bell
        for _ in range(ROUNDS):
            most = inbox.most(source)
            entries = self._runtime.call(inbox.take(source, self._runtime.name, answered=answered))
            answered = None
            if len(entries) == TAKE_MOST:
                self._runtime.call(self._runtime.bells.ring([bell]))  # more than one batch: let others join
            if entries:
                self._admit(setup, source, entries)
            if len(entries) < most:
                break
        else:
            self._runtime.call(self._runtime.bells.ring([bell]))
        now = monotonic()
        if now - self._looked_back.get(source, -LOOK_BACK_S) >= LOOK_BACK_S:
            self._looked_back[source] = now
            self._take_over(setup, source)

    def _answer_in_turn(self, setup: Setup, source: str, bell: Doorbell) -> None:
        """Admit for an ordered target: one batch at a time fleet-wide, in the inbox's order.

        Whose turn it is not leaves all to the one whose it is, who looks again after each batch: what came
        meanwhile needs no doorbell of its own, which costs more than all else. After a while other sources
        have their turn at this thread.
        """
        inbox, holder = self._runtime.inbox, f"{self._runtime.name}:{uuid4().hex}"
        entries = self._runtime.call(inbox.begin_turn_and_take(source, holder))
        if entries is None:
            return
        try:
            until = monotonic() + IN_TURN_S
            while entries:
                more = monotonic() < until
                if entries[0].takes_alone > TAKES_ALONE:
                    batch: Batch = [_poison(entries[0])]
                    entries = self._commit(setup, source, batch, perf_counter(), fence=holder, take_next=more)
                else:
                    entries = self._admit(setup, source, entries, fence=holder, take_next=more)
        finally:
            waiting = self._runtime.call(inbox.end_turn(source, holder))
        # What came between the last look and the end of the turn was nobody's to take.
        if waiting:
            self._runtime.call(self._runtime.bells.ring([bell]))

    def _take_over(self, setup: Setup, source: str) -> None:
        """Retry what a dead worker left behind: each entry alone, so that poison takes no neighbour along."""
        while entry := self._runtime.call(self._runtime.inbox.take_over(source, self._runtime.name)):
            if entry.takes_alone > TAKES_ALONE:
                self._commit(setup, source, [_poison(entry)], perf_counter())
            else:
                self._admit(setup, source, [entry])

    def _admit(
        self,
        setup: Setup,
        source: str,
        entries: Sequence[Entry],
        *,
        fence: str = "",
        take_next: bool = False,
    ) -> list[Entry]:
        started = perf_counter()
        self._runtime.batch_started()
        try:
            batch = [setup.reader.read(entry) for entry in entries]
        finally:
            self._runtime.batch_ended()
        return self._commit(setup, source, batch, started, fence=fence, take_next=take_next)

    def _commit(
        self,
        setup: Setup,
        source: str,
        batch: Batch,
        started: float,
        *,
        fence: str = "",
        take_next: bool = False,
    ) -> list[Entry]:
        """Admit what was read; with `take_next` also take what comes next in turn, and return it."""
        outcomes, entries = self._runtime.call(
            self._admit_and_deliver(setup, source, batch, fence, take_next)
        )
        unknown = self._count_unknown(source, batch, outcomes)
        self._log(source, batch, outcomes, started, unknown)
        return entries

    async def _admit_and_deliver(
        self, setup: Setup, source: str, batch: Batch, fence: str, take_next: bool
    ) -> tuple[list[Outcome], list[Entry]]:
        inbox, deliverer = self._runtime.inbox, self._runtime.deliverer
        terms = Terms(setup.reader.window_ms(source), setup.retention_ms, fence)
        entries: list[Entry] = []
        if take_next:
            outcomes, entries = await inbox.admit_and_take_in_turn(source, batch, terms)
        else:
            outcomes = await inbox.admit(source, batch, terms)
        # This process delivers at once what it can; what it cannot take, it rings for.
        deliverer.admitted(
            (item.event, item.targets)
            for item, outcome in zip(batch, outcomes, strict=True)
            if isinstance(item, Admission) and outcome.what == "admitted"
        )
        return outcomes, entries

    def _count_unknown(self, source: str, batch: Batch, outcomes: Sequence[Outcome]) -> int:
        """Count new events of a type that no mapping knows: somebody should add it."""
        unknown = sum(
            isinstance(item, Admission) and item.unknown and outcome.what == "admitted"
            for item, outcome in zip(batch, outcomes, strict=True)
        )
        if unknown:
            self._runtime.call(self._runtime.upkeep.count_unknown(source, unknown))
        return unknown

    def _log(
        self,
        source: str,
        batch: Batch,
        outcomes: Sequence[Outcome],
        started: float,
        unknown: int,
    ) -> None:
        counts = Counter(outcome.what for outcome in outcomes)
        reasons = sorted({item.code for item in batch if isinstance(item, Quarantine)})
        for item in batch:
            if isinstance(item, Quarantine) and item.code == ADAPTER_FAILED:
                log.error("adapter failed", source=source, event_id=item.entry.id, reason=item.detail)
        # A copy that is no copy may be an event that was suppressed: somebody should look.
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


def _poison(entry: Entry) -> Quarantine:
    return Quarantine(entry, POISON, f"{TAKES_ALONE} workers in turn took it alone and died or were ended")
