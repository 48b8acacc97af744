"""One attempt: under way, ended, and the line that says so."""

from time import perf_counter
from typing import NamedTuple

import structlog

from shared.errors import EgressError
from shared.event.record import EventRecord
from shared.http import Answer, Exchange
from shared.store.due import Attempt, Claimed, End, Settlement
from shared.values import clipped
from workers.lane import Lane

log = structlog.get_logger()


class UnderWay:
    """A claimed delivery that is being tried. `exchange` is None until it is begun, and when it has ended."""

    __slots__ = ("at_ms", "claimed", "event", "exchange", "lane", "started")

    def __init__(self, lane: Lane, claimed: Claimed, event: EventRecord) -> None:
        self.lane = lane
        self.claimed = claimed
        self.event = event
        self.exchange: Exchange | None = None
        self.started = 0.0
        self.at_ms = 0

    def start(self, now_ms: int, now: float) -> bytes:
        """Note when it starts, and return its request. `now_ms` was Redis's time when it was `now` here.

        Redis's clock, carried on by ours from the claim: a worker's own clock has no effect.
        """
        self.started = perf_counter()
        self.at_ms = now_ms + int((self.started - now) * 1000)
        return self.lane.outgoing.request(self.event, self.at_ms)

    def record(self, result: Answer | Exception, most_error_bytes: int) -> Attempt:
        """Return what is kept of it."""
        n = self.claimed.failed + 1
        resent = self.exchange is not None and self.exchange.resent
        duration_ms = round((perf_counter() - self.started) * 1000, 2)
        if isinstance(result, Answer):
            said = result.body.decode("utf-8", "replace")
            return Attempt(n, self.at_ms, duration_ms, result.status, answer=said, resent=resent)
        if isinstance(result, EgressError):
            failure = clipped(str(result), most_error_bytes)
        else:
            # A mistake of ours must not hold the delivery in a circle of leases that run out: it is a
            # failed attempt, and the schedule goes on. The error's text may quote the payload.
            failure = f"internal: {type(result).__name__}"
            log.error("attempt failed by itself", event_id=self.event.id, error=type(result).__name__)
        return Attempt(n, self.at_ms, duration_ms, error=failure, resent=resent)


class Ended(NamedTuple):
    """A claim that has ended, and what its log line says beside: written to Redis in the next turn."""

    lane: Lane
    settlement: Settlement
    source: str | None = None

    def log(self, counted: bool) -> None:
        """Write the one line of an attempt. `counted`: it ended in time, and changed something."""
        settlement, attempt = self.settlement, self.settlement.attempt
        if attempt is None:
            return  # handed back: no attempt
        end = settlement.end
        log.info(
            "delivery",
            event_id=settlement.claimed.event_id,
            source=self.source,
            target=self.lane.name,
            outcome=end.value if counted else f"{end.value}, too late to count",
            attempt=attempt.n,
            status=attempt.status,
            error=attempt.error or None,
            resent=attempt.resent or None,
            duration_ms=attempt.duration_ms,
            next_in_s=settlement.delay_ms / 1000 if end is End.RETRY else None,
            reason=settlement.reason.text if settlement.reason else None,
        )
