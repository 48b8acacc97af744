"""The result of a simulation: answers by status, and how long they took."""

from array import array
from collections import Counter

import msgspec

from shared.simulation.plan import Planned


class Latencies(msgspec.Struct, frozen=True):
    """Milliseconds from the request's first byte to the answer's last."""

    p50: float
    p95: float
    p99: float
    max: float


class Summary(msgspec.Struct, frozen=True):
    """A run's numbers. `answers` is status → count; `unanswered` counts requests without an answer.

    `unexpected` counts these, and requests that got another answer than they should.
    """

    scenarios: list[str]
    sources: list[str]
    url: str
    lifecycles: int
    requests: int
    copies: int
    corrupt: int
    answers: dict[str, int]
    unanswered: int
    unexpected: int
    seconds: float
    requests_per_s: float
    latencies_ms: Latencies | None
    mistakes: list[str]


MISTAKES_SHOWN = 5


class Tally:
    """Adds up one thread's answers, or several threads' tallies."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.requests = self.copies = self.corrupt = self.unexpected = self.unanswered = 0
        self.mistakes: list[str] = []
        self.latencies_ms = array("d")

    def add(self, request: Planned, status: int | None, ms: float, problem: str = "") -> None:
        """Count a request; `status` is None if there was no answer, and `problem` says why."""
        self.requests += 1
        self.copies += request.copy
        self.corrupt += request.fate != "sound"
        if status is None:
            self.unanswered += 1
        else:
            self.answers[status] += 1
            self.latencies_ms.append(ms)
        if status is None or status not in request.expected:
            self.unexpected += 1
            if len(self.mistakes) < MISTAKES_SHOWN:
                got = f"answered {status}" if status is not None else problem
                self.mistakes.append(f"{request.message.event} ({request.fate}): {got}")

    def merge(self, other: "Tally") -> None:
        """Take over another's counts."""
        self.answers += other.answers
        for name in ("requests", "copies", "corrupt", "unexpected", "unanswered"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.mistakes = (self.mistakes + other.mistakes)[:MISTAKES_SHOWN]
        self.latencies_ms.extend(other.latencies_ms)

    def latencies(self) -> Latencies | None:
        """Return the percentiles; None if nothing was answered."""
        ordered = sorted(self.latencies_ms)
        if not ordered:
            return None

        def at(part: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 2)

        return Latencies(p50=at(0.50), p95=at(0.95), p99=at(0.99), max=round(ordered[-1], 2))
