"""What the model is made of: plain records, and the whole of them."""

from dataclasses import dataclass, field
from enum import Enum

from shared.event.ids import received_ms


class State(Enum):
    WAITING = "waiting"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    EXPIRED = "expired"

    @property
    def open(self) -> bool:
        """Whether it keeps its event from being removed."""
        return self not in (State.DONE, State.EXPIRED)


@dataclass
class Delivery:
    """`at`: when it is due (None: it stands behind another in its lane), its lease ends (its token), it died."""

    state: State = State.WAITING
    at: int | None = None
    failed: int = 0
    lapsed: int = 0
    age_ms: int = 0  # its attempts of this schedule, and the waits after them
    why: str = ""  # of a dead letter
    attempts: set[int] = field(default_factory=set)  # tokens
    # Replayed: its place in a lane is no more that of its receipt. Only the model knows it.
    by_hand: bool = field(default=False, compare=False)


@dataclass
class Request:
    """What came in; wherever it stands, it keeps these."""

    id: str
    source: str
    body: bytes

    @property
    def received(self) -> int:
        return received_ms(self.id)


@dataclass
class Received(Request):
    """In an inbox. `taken` is when it was taken last, by the server's clock."""

    consumer: str | None = None
    taken: int = 0
    alone: int = 0


@dataclass
class Kept(Request):
    """What a copy may be one of."""

    copies: int = 0
    differing: int = 0


@dataclass
class Event(Kept):
    transaction: str = ""
    ordered: tuple[str, ...] = ()
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    copy_of: str = ""
    packed: int | None = field(default=None, compare=False)  # when it was packed; None while it is not
    packed_before: int = 0  # the latest of these: a success that is said again from before then ends nothing
    straight: bool = False  # admitted from the inbox: its place in a lane is that of its receipt

    @property
    def open(self) -> int:
        return sum(delivery.state.open for delivery in self.deliveries.values())


@dataclass
class Quarantined(Kept):
    code: str = ""


@dataclass
class Copy(Request):
    """A recorded duplicate. `own_body`: it keeps its own, since the first's is another or gone."""

    of: str = ""
    own_body: bool = False
    differs: bool = False
    expires: int = 0

    @property
    def late(self) -> bool:
        """Whether its first was gone when it came."""
        return self.own_body and not self.differs


@dataclass
class Target:
    state: str = "active"


@dataclass
class World:
    """Everything there is. `now` is the time that scripts see, `server` the one that expiries follow."""

    now: int = 0
    server: int = 0
    inbox: dict[str, dict[str, Received]] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    quarantine: dict[str, Quarantined] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)
    copy_index: set[str] = field(default_factory=set)  # those whose record expired are still listed
    keys: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # dedupe: who holds it, since
    counters: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)  # count, until
    turns: dict[str, tuple[str, int]] = field(default_factory=dict)  # holder, until
    lanes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    held: set[tuple[str, str]] = field(default_factory=set)  # lanes whose first is a dead letter that holds
    targets: dict[str, Target] = field(default_factory=dict)
    on_record: dict[str, int] = field(default_factory=dict)  # targets: when a process last had them
    let_go: set[str] = field(default_factory=set)  # what retention has removed
    archived: dict[str, Event] = field(default_factory=dict)  # as they were when they were archived last
    archived_copies: dict[str, Copy] = field(default_factory=dict)

    def move(self, now: int, server: int) -> None:
        """The clock moves; what follows the server's clock expires."""
        self.now, self.server = now, server
        self.counters = {name: count for name, count in self.counters.items() if count[1] > server}
        self.turns = {source: turn for source, turn in self.turns.items() if turn[1] > server}
        for id in [id for id, copy in self.copies.items() if copy.expires <= server]:
            del self.copies[id]
            self.let_go.add(id)

    def known(self, id: str) -> Event | None:
        """Return an event, wherever it is: what Redis says holds."""
        return self.events.get(id) or self.archived.get(id)

    # Lanes.

    def leave_lane(self, event: Event, target: str) -> None:
        """One that ended makes room; who is first in its lane then is due."""
        if target not in event.ordered:
            return
        key = target, event.transaction
        lane = self.lanes.get(key, [])
        if event.id in lane:
            lane.remove(event.id)
        first = self.events[lane[0]].deliveries[target] if lane else None
        if first is None or first.state in (State.WAITING, State.LEASED):
            self.held.discard(key)
        if first and first.state is State.WAITING and first.at is None:
            first.at = self.now

    def enter(self, event: Event, target: str) -> None:
        """A delivery waits from now on: in an ordered target, in its lane."""
        delivery = event.deliveries[target]
        delivery.state, delivery.at = State.WAITING, self.now
        if target in event.ordered:
            lane = self.lanes.setdefault((target, event.transaction), [])
            if event.id not in lane:
                lane.append(event.id)
            if lane[0] != event.id:
                delivery.at = None
            else:
                self.held.discard((target, event.transaction))
