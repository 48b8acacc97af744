"""One run: the store, the model, what workers hold in memory, and what must hold after every step.

A worker is what it holds: taken entries, claims, a turn. It may be slow (whatever it holds may be used at any later
time, again, or too late), may never see a reply, may say a thing twice, or forget all (a crash).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from shared.store.admission import Entry
from shared.store.due import Claimed
from tests.faults.model import layout, promises
from tests.faults.model.intake import RESEND_MS, WINDOW_MS
from tests.faults.model.letters import Letter, Reading, Route
from tests.faults.model.model import Model
from tests.faults.model.product import Product
from tests.faults.model.records import State

T = TypeVar("T")

# `free` feeds only targets without order, so any worker may take from it; `strict` is admitted in turn.
FREE, STRICT = SOURCES = ("free", "strict")
ROUTES = {
    "plain": Route(SOURCES, concurrency=2),
    "other": Route((FREE,), concurrency=3),
    "lanes": Route((STRICT,), concurrency=2, ordered=True),
    "holds": Route((STRICT,), concurrency=3, ordered=True, hold=True),
}
REMEMBERED = 12

targets = st.sampled_from(sorted(ROUTES))
workers = st.sampled_from(["w1", "w2"])
picks = st.integers(0, REMEMBERED - 1)
seldom = st.sampled_from([False, False, False, True])


@dataclass
class Batch:
    """Entries that a worker has taken. `turn`: who must hold the source's turn ('': nobody)."""

    worker: str
    source: str
    entries: Sequence[Entry]
    turn: str = ""


@dataclass
class Held:
    """A claim in a worker's memory."""

    worker: str
    claimed: Claimed


class Run(RuleBasedStateMachine):
    """What the rules work on."""

    product: ClassVar[Product]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.product.start()
        self.model = Model(now=self.product.clock.now_ms, server=self.product.clock.server_ms)
        self.routes = dict(ROUTES)
        self.reading = Reading(self.routes, window_ms=WINDOW_MS, resend_ms=RESEND_MS)
        self.accepted: list[str] = []
        self.sent: list[tuple[str, Letter]] = []
        self.batches: list[Batch] = []
        self.claims: list[Held] = []
        self.turns: list[Batch] = []

    def pass_time(self, quanta: int) -> None:
        self.product.move(quanta)
        self.model.move(self.product.clock.now_ms, self.product.clock.server_ms)

    def hold(self, target: str) -> bool:
        """Whether a dead letter holds the rest of its transaction, by the configuration of now."""
        return target in self.routes and self.routes[target].hold

    @property
    def with_due(self) -> list[str]:
        """Targets, paused ones too, that something is due for."""
        return [name for name in sorted(ROUTES) if self.model.due(name)]

    @property
    def with_lapsed(self) -> list[str]:
        """Targets with leases that ran out."""
        leased = {name: [*self.model.of(name, State.LEASED)] for name in sorted(ROUTES)}
        return [name for name, held in leased.items() if any((d.at or 0) <= self.model.now for _, d in held)]

    @property
    def live(self) -> list[Held]:
        """Claims in memory whose leases are theirs."""
        leases = {(name, e.id, d.at) for name in ROUTES for e, d in self.model.of(name, State.LEASED)}
        return [h for h in self.claims if (h.claimed.target, h.claimed.event_id, h.claimed.token) in leases]

    def having(self, *states: State) -> list[str]:
        """Targets with deliveries in one of these states."""
        deliveries = [event.deliveries for event in (self.model.archived | self.model.events).values()]
        return [n for n in sorted(ROUTES) if any(d[n].state in states for d in deliveries if n in d)]

    def remember(self, held: list[T], item: T) -> None:
        """Add to what a worker holds; the oldest is forgotten when it is too much."""
        held.append(item)
        del held[:-REMEMBERED]

    @invariant()
    def the_store_is_as_promised_and_as_the_model_says(self) -> None:
        found = layout.read(self.product.snapshot(), self.model.holds)
        problems = promises.broken(found, self.accepted, self.model.let_go, ROUTES, self.product.archived)
        assert not problems, problems
        differences = layout.differences(found, layout.expected(self.model, self.model.holds))
        assert not differences, differences
        Run.steps += 1
        self.product.clock.tick()
        self.model.now = self.product.clock.now_ms


def picked(held: Sequence[T], number: int) -> T:
    """Pick one, the latest for 0."""
    return held[-1 - number % len(held)]


def one_of(candidates: Callable[[Any], Sequence[T]]) -> st.SearchStrategy[T]:
    """Draw what makes sense at this point of the run; the rule's precondition says that there is something."""
    return st.runner().flatmap(lambda run: st.sampled_from(candidates(run)))
