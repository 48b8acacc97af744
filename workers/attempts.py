"""Attempts: makes the requests of claimed deliveries, and decides how each claim ends."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import NamedTuple

import structlog

from shared.delivery.verdicts import succeeded
from shared.errors import EgressError
from shared.event.record import EventRecord
from shared.http import Answer, Egress, Exchange
from shared.store.due import Attempt, Claimed, End, Settlement
from shared.values import clipped
from workers.served import ServedTarget

log = structlog.get_logger()

SLOTS = 1024


class EndedClaim(NamedTuple):
    """A claim that has ended, with the facts for its log line. The next round trip writes it to Redis."""

    target: ServedTarget
    settlement: Settlement
    source: str | None = None

    def log(self, counted: bool) -> None:
        """Write the log line of an attempt.

        `counted`: Redis accepted its end, as its lease had not run out.
        """
        settlement, attempt = self.settlement, self.settlement.attempt
        if attempt is None:
            return  # handed back: no attempt
        end = settlement.end
        log.info(
            "delivery",
            event_id=settlement.claimed.event_id,
            source=self.source,
            target=self.target.name,
            outcome=end.value if counted else f"{end.value}, too late to count",
            attempt=attempt.n,
            status=attempt.status,
            error=attempt.error or None,
            resent=attempt.resent or None,
            duration_ms=attempt.duration_ms,
            next_in_s=settlement.delay_ms / 1000 if end is End.RETRY else None,
            reason=settlement.reason.text if settlement.reason else None,
        )


class UnderWay:
    """A claimed delivery that is being tried. `exchange` is None before it begins and after it has ended."""

    __slots__ = ("at_ms", "claimed", "event", "exchange", "started", "target")

    def __init__(self, target: ServedTarget, claimed: Claimed, event: EventRecord) -> None:
        self.target = target
        self.claimed = claimed
        self.event = event
        self.exchange: Exchange | None = None
        self.started = 0.0
        self.at_ms = 0

    def start(self, now_ms: int, now: float) -> bytes:
        """Record when it starts, and return its request. `now_ms` was Redis's time when the loop's was `now`.

        The time is Redis's at the claim, plus what the loop has counted since: a worker's own clock has no
        effect.
        """
        self.started = perf_counter()
        self.at_ms = now_ms + int((self.started - now) * 1000)
        return self.target.outgoing.request(self.event, self.at_ms)

    def record(self, result: Answer | Exception, most_error_bytes: int) -> Attempt:
        """Return the attempt as it is stored."""
        n = self.claimed.failed + 1
        resent = self.exchange is not None and self.exchange.resent
        duration_ms = round((perf_counter() - self.started) * 1000, 2)
        if isinstance(result, Answer):
            said = result.body.decode("utf-8", "replace")
            return Attempt(n, self.at_ms, duration_ms, result.status, answer=said, resent=resent)
        if isinstance(result, EgressError):
            failure = clipped(str(result), most_error_bytes)
        else:
            # A defect of ours must not keep the delivery in a circle of leases that run out: it is a failed
            # attempt, and the schedule goes on. The error's text is left out, as it may quote the payload.
            failure = f"internal: {type(result).__name__}"
            log.error("attempt failed by itself", event_id=self.event.id, error=type(result).__name__)
        return Attempt(n, self.at_ms, duration_ms, error=failure, resent=resent)


class Attempts:
    """The attempts that this process has under way, SLOTS at most."""

    def __init__(self, egress: Egress, ended: Callable[[EndedClaim], None]) -> None:
        """`ended` is called with each claim when its attempt has ended, or the claim is handed back."""
        self._egress = egress
        self._ended = ended
        self._under_way: set[UnderWay] = set()
        self._all_ended: asyncio.Event | None = None
        self._most_error_bytes = 0

    def configure(self, most_error_bytes: int) -> None:
        """Keep at most `max_error_bytes` of the errors of attempts that end from now on."""
        self._most_error_bytes = most_error_bytes

    @property
    def free(self) -> int:
        """How many more attempts may be under way."""
        return SLOTS - len(self._under_way)

    def start(
        self,
        target: ServedTarget,
        claimed: Iterable[tuple[Claimed, EventRecord]],
        now_ms: int,
        claimed_at: float,
    ) -> None:
        """Begin attempts; returns before that. Redis's time was `now_ms` when ours was `claimed_at`."""
        starting = [UnderWay(target, each, event) for each, event in claimed]
        target.in_flight += len(starting)
        self._under_way.update(starting)
        # In the next turn of the loop, so that the next round trip goes out first: else Redis would be idle
        # while all of these are sent.
        asyncio.get_running_loop().call_soon(self._begin, now_ms, claimed_at, starting)

    def _begin(self, now_ms: int, claimed_at: float, starting: Sequence[UnderWay]) -> None:
        for under_way in starting:
            if under_way not in self._under_way:
                continue  # handed back meanwhile
            target = under_way.target
            answered = partial(self._answered, under_way)
            try:
                request = under_way.start(now_ms, claimed_at)
                under_way.exchange = self._egress.begin(
                    target.outgoing.endpoint, request, target.settings.timeout, answered
                )
            except Exception as error:
                answered(error)

    def _answered(self, under_way: UnderWay, result: Answer | Exception) -> None:
        attempt = under_way.record(result, self._most_error_bytes)
        self._free(under_way)
        retry_after = result.retry_after if isinstance(result, Answer) else None
        self.judge(
            under_way.target,
            under_way.claimed,
            attempt,
            retry_after=retry_after,
            source=under_way.event.source,
        )

    def judge(
        self,
        target: ServedTarget,
        claimed: Claimed,
        attempt: Attempt,
        *,
        retry_after: bytes | None = None,
        source: str | None = None,
    ) -> None:
        """End a claim as the target's policy judges its attempt: done, due later, or given up."""
        end, delay_s, reason = End.DONE, 0.0, None
        if not succeeded(attempt.status):
            verdict = target.policy.judge(
                attempt=attempt.n,
                status=attempt.status,
                retry_after=retry_after,
                now_s=(attempt.at_ms + attempt.duration_ms) / 1000,
                age_s=(claimed.age_ms + attempt.duration_ms) / 1000,
            )
            end, delay_s, reason = End(verdict.outcome.value), verdict.delay_s, verdict.reason
        settlement = Settlement(claimed, end, int(delay_s * 1000), attempt, reason)
        self._ended(EndedClaim(target, settlement, source))

    def _free(self, under_way: UnderWay) -> None:
        under_way.exchange = None
        under_way.target.in_flight -= 1
        self._under_way.discard(under_way)
        if self._all_ended is not None and not self._under_way:
            self._all_ended.set()

    async def drain(self, grace_s: float) -> int:
        """Wait for the attempts under way, then cancel the rest and hand those back uncharged.

        Returns how many.
        """
        if self._under_way:
            self._all_ended = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), grace_s)
        left = list(self._under_way)
        for under_way in left:
            if under_way.exchange is not None:
                under_way.exchange.cancel()
            self._free(under_way)
            self._ended(EndedClaim(under_way.target, Settlement(under_way.claimed, End.BACK)))
        return len(left)
