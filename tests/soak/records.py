"""What three witnesses wrote down: the senders, the targets, and the gateway itself."""

from fnmatch import fnmatchcase

import msgspec


class Request(msgspec.Struct, frozen=True):
    """One request that was sent. `message` is the same in every copy and re-send of it.

    `status` is None where no answer came; `digest` is of the body, as the gateway keeps it. `expected` are
    the statuses that it may get when all is well. Times are the senders' monotonic clock.
    """

    message: str
    source: str
    event: str
    digest: str
    sent_at: float
    answered_at: float
    status: int | None
    receipt: str = ""
    expected: frozenset[int] = frozenset({200})
    whole: bool = True

    @property
    def maybe_kept(self) -> bool:
        """Whether the gateway may hold it though nobody was told: its answer, or its commit's, was lost."""
        return self.status is None or self.status == 503


class Arrival(msgspec.Struct, frozen=True):
    """One request that a target read to its end. `status` is what it answered; 0 where it did not.

    `problem` says what was wrong with it, such as its signature. Times are the target's monotonic clock.
    """

    target: str
    id: str
    at: float
    answered_at: float
    status: int
    type: str = ""
    transaction: str = ""
    problem: str = ""

    @property
    def taken(self) -> bool:
        """Whether the target said that it has it."""
        return 200 <= self.status < 300


class Held(msgspec.Struct, frozen=True):
    """What the gateway holds in the end; events, copies and quarantine with the digests of their bodies."""

    events: dict[str, str] = {}
    duplicates: dict[str, tuple[str, str]] = {}
    """Receipt → what it is a copy of, and its digest."""
    quarantined: dict[str, str] = {}
    inbox: frozenset[str] = frozenset()
    dead: dict[str, frozenset[str]] = {}
    """Target → its dead letters."""
    waiting: dict[str, dict[str, str]] = {}
    """Target → event → `due` or `leased`."""
    ends: dict[str, dict[str, str]] = {}
    """Target → event → how its delivery ended, as the event says."""


class Rule(msgspec.Struct, frozen=True):
    """Which events a target asked for, whether in order, and whether any may end as its dead letters."""

    target: str
    sources: tuple[str, ...] = ("*",)
    types: tuple[str, ...] = ("*",)
    ordered: bool = False
    gives_up: bool = False

    def wants(self, source: str, type_: str) -> bool:
        """Tell whether an event is for this target. '' is a type that no target was told."""
        return any(fnmatchcase(source, glob) for glob in self.sources) and any(
            fnmatchcase(type_, glob) for glob in self.types
        )
