"""Due deliveries → attempts → done, later or dead. Lives on the loop; no thread waits for a target."""

import asyncio
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import NamedTuple

import structlog

from shared.config import Config
from shared.doorbell import DELIVER, Doorbell
from shared.egress import Answer, Egress
from shared.errors import EgressError, StoreUnavailable
from shared.events import EventRecord
from shared.store.bells import Bells
from shared.store.due import Attempt, Claimed, Claims, DueSets, End, Patience, Settlement, Wish
from shared.values import clipped
from workers.lane import Lane
from workers.recent import Recent

log = structlog.get_logger()

SLOTS = 1024
CLAIM_AT_ONCE = 16
SETTLE_AT_ONCE = 200
SETTLE_AGAIN_S = 0.5


class Ended(NamedTuple):
    """A claim that has ended, and what its log line says beside: written to Redis in the next turn."""

    lane: Lane
    settlement: Settlement
    source: str | None = None


class Deliverer:
    """Delivers what is due, for all targets of this process's configuration.

    Claims and their ends are said to Redis in turns: while one round trip is under way, what ends and who
    wants more gather for the next. A turn settles before it claims, so that the room made is used at once.
    """

    def __init__(self, config: Config, due: DueSets, bells: Bells, egress: Egress) -> None:
        self._due = due
        self._bells = bells
        self._egress = egress
        self._lanes: dict[str, Lane] = {}
        self._patience: dict[str, Patience] = {}
        self._recent = Recent()
        self._ended: list[Ended] = []
        self._wanting: dict[str, None] = {}
        self._turning: asyncio.Task[None] | None = None
        self._in_flight: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.use(config)

    def use(self, config: Config) -> None:
        """Take up a configuration: attempts from now on are made by it, those under way are not touched.

        A target that is not in it any more is left alone: another process may still have it.
        """
        self._most_error_bytes = config.retention.max_error_bytes
        lanes = {}
        for target in config.targets:
            lane = self._lanes.get(target.name)
            if lane is None:
                lane = Lane(config, target)
            else:
                lane.use(config, target)
            lanes[target.name] = lane
        for name, lane in self._lanes.items():
            if name not in lanes:
                self._wake_at(lane, None)
        self._lanes = lanes
        # Those of targets that are gone stay, for what is under way.
        self._patience |= {name: lane.patience for name, lane in lanes.items()}

    def answer(self, target: str) -> None:
        """Answer a doorbell; returns at once."""
        if not self._stopping:
            task = asyncio.get_running_loop().create_task(self._answer(target))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, target: str) -> None:
        try:
            # The flag goes down before the set is read: what becomes due after that rings anew.
            await self._bells.answered(Doorbell(DELIVER, target))
        except StoreUnavailable as error:
            log.warning("doorbell not answered", target=target, reason=str(error))  # the sweep rings again
        else:
            self.kick(target)

    def admitted(self, events: Iterable[tuple[EventRecord, Sequence[str]]]) -> None:
        """Deliver at once what this process admitted for these targets, as far as it can."""
        for event, targets in events:
            self._recent.keep(event, len(targets))
            for target in targets:
                self.kick(target)

    def kick(self, target: str) -> None:
        """Look for what is due at a target, in the next turn; unknown targets are left alone."""
        if target in self._lanes and not self._stopping:
            self._wanting[target] = None
            self._turn()

    def _turn(self) -> None:
        if self._turning is None:
            self._turning = asyncio.get_running_loop().create_task(self._take_turns())

    async def _take_turns(self) -> None:
        try:
            while self._ended or self._wanting:
                ended, self._ended = self._ended[:SETTLE_AT_ONCE], self._ended[SETTLE_AT_ONCE:]
                wishes = self._wishes()
                if not await self._take_turn(ended, wishes):
                    # All of it can be said twice; in order, so that what has waited longest goes first.
                    self._ended = ended + self._ended
                    if self._stopping:
                        for item in self._ended:  # the leases run out, and another worker delivers again
                            log.warning(
                                "not settled",
                                event_id=item.settlement.claimed.event_id,
                                target=item.lane.name,
                            )
                        return
                    await asyncio.sleep(SETTLE_AGAIN_S)
        finally:
            self._turning = None

    def _wishes(self) -> list[Wish]:
        """Say what this process could start now, for some of the lanes that want more."""
        wishes: list[Wish] = []
        free = SLOTS - len(self._in_flight)
        for name in list(self._wanting)[:CLAIM_AT_ONCE]:
            del self._wanting[name]
            lane = self._lanes.get(name)
            if lane is None or self._stopping:
                continue
            # At most half of what is free goes to one target, so that no target ever takes the last.
            # And half of its own concurrency in one turn: one half is sent while Redis is told of the other.
            room = lane.target.concurrency - lane.in_flight
            most = min(room, (lane.target.concurrency + 1) // 2, (free + 1) // 2)
            lane.look_again = most <= 0
            if most > 0:
                free -= most
                wishes.append(Wish(name, most, lane.limits))
        return wishes

    async def _take_turn(self, ended: Sequence[Ended], wishes: Sequence[Wish]) -> bool:
        """Settle and claim in one round trip. Returns False where the settlements must be said again."""
        if not ended and not wishes:
            return True
        try:
            turn = await self._due.turn([item.settlement for item in ended], self._patience, wishes)
        except StoreUnavailable as error:
            # What is due and not claimed, the sweep rings for.
            log.warning("Redis did not answer", deliveries=len(ended), claims=len(wishes), reason=str(error))
            return not ended
        claimed_at = perf_counter()
        for wish, claims in zip(wishes, turn.claims, strict=True):
            lane = self._lanes.get(wish.target)
            if isinstance(claims, Exception):
                log.warning("claim failed", target=wish.target, reason=str(claims))  # the sweep rings again
            elif lane is not None:  # else its lease runs out, and whoever has the target delivers
                await self._start_claims(lane, wish, claims, claimed_at)
        if turn.failure:
            log.warning("settling failed", deliveries=len(ended), reason=str(turn.failure))
            return False
        for item, counted in zip(ended, turn.counted, strict=True):
            _log(item, counted)
        for target, change in turn.news.items():
            log.error(f"target {change}", target=target) if change == "disabled" else log.warning(
                f"breaker {change}", target=target
            )
        return True

    async def _start_claims(self, lane: Lane, wish: Wish, claims: Claims, claimed_at: float) -> None:
        missing: list[Claimed] = []
        for claimed in claims.entries:
            event = self._recent.use(claimed.event_id)
            if event is None:
                missing.append(claimed)
            else:
                self._start(lane, claimed, event, claims.now_ms, claimed_at)
        if missing:
            await self._read_and_start(lane, missing, claims.now_ms, claimed_at)
        if not claims.more:
            self._wake_at(lane, claims.next_due_s)
            return
        lane.look_again = True
        # Fewer than wanted: the target's concurrency is used up, by us or by others.
        room = lane.target.concurrency - lane.in_flight
        if len(claims.entries) < wish.most or room <= 0:
            return
        self._wanting[lane.name] = None
        if room > SLOTS - len(self._in_flight):  # more than this process can take: others may join in
            try:
                await self._bells.ring([Doorbell(DELIVER, lane.name)])
            except StoreUnavailable as error:
                log.warning("doorbell not rung", target=lane.name, reason=str(error))  # the sweep rings

    async def _read_and_start(
        self, lane: Lane, claimed: Sequence[Claimed], now_ms: int, claimed_at: float
    ) -> None:
        try:
            events = await self._due.read([each.event_id for each in claimed])
        except StoreUnavailable as error:
            log.warning("events not read", target=lane.name, events=len(claimed), reason=str(error))
            events = [None] * len(claimed)
        for each, event in zip(claimed, events, strict=True):
            if event is None:  # handed back; one that is gone is dropped by that
                self._ended.append(Ended(lane, Settlement(each, End.BACK)))
            else:
                self._start(lane, each, event, now_ms, claimed_at)

    def _wake_at(self, lane: Lane, next_due_s: float | None) -> None:
        """Be back for the next retry when it is due: the sweep alone would be up to a second late."""
        if lane.timer:
            lane.timer.cancel()
            lane.timer = None
        if next_due_s is not None:
            loop = asyncio.get_running_loop()
            lane.timer = loop.call_later(next_due_s + 0.001, self.kick, lane.name)

    def _start(
        self, lane: Lane, claimed: Claimed, event: EventRecord, now_ms: int, claimed_at: float
    ) -> None:
        if self._stopping:  # claimed too late to be tried
            self._ended.append(Ended(lane, Settlement(claimed, End.BACK)))
            return
        lane.in_flight += 1
        attempt = self._attempt(lane, claimed, event, now_ms, claimed_at)
        task = asyncio.get_running_loop().create_task(attempt)
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _attempt(
        self, lane: Lane, claimed: Claimed, event: EventRecord, now_ms: int, claimed_at: float
    ) -> None:
        started = perf_counter()
        # Redis's clock, carried on by ours from the claim: a worker's own clock has no effect.
        at_ms = now_ms + int((started - claimed_at) * 1000)
        answer: Answer | None = None
        failure = ""
        try:
            headers, body = lane.outgoing.request(event, at_ms)
            answer = await self._egress.post(lane.outgoing.endpoint, headers, body, lane.target.timeout)
        except EgressError as error:
            failure = clipped(str(error), self._most_error_bytes)
        except asyncio.CancelledError:
            self._ended.append(Ended(lane, Settlement(claimed, End.BACK)))
            raise
        except Exception as error:
            # A mistake of ours must not hold the delivery in a circle of leases that run out: it is a
            # failed attempt, and the schedule goes on. The error's text may quote the payload.
            log.error("attempt failed by itself", event_id=claimed.event_id, error=type(error).__name__)
            failure = f"internal: {type(error).__name__}"
        finally:
            lane.in_flight -= 1
        attempt = Attempt(
            n=claimed.failed + 1,
            at_ms=at_ms,
            duration_ms=round((perf_counter() - started) * 1000, 2),
            status=answer.status if answer else None,
            error=failure,
            answer=answer.body.decode("utf-8", "replace") if answer else "",
        )
        retry_after = answer.retry_after if answer else None
        self._finish(lane, claimed, attempt, retry_after=retry_after, source=event.source)

    def finish_lapsed(self, claimed: Claimed, now_ms: int) -> None:
        """Count a delivery that workers died with again and again as a failed attempt."""
        error = "lease: the workers that held it died, ten times"
        attempt = Attempt(n=claimed.failed + 1, at_ms=now_ms, duration_ms=0, error=error)
        self._finish(self._lanes[claimed.target], claimed, attempt)

    def _finish(
        self,
        lane: Lane,
        claimed: Claimed,
        attempt: Attempt,
        *,
        retry_after: bytes | None = None,
        source: str | None = None,
    ) -> None:
        verdict = lane.policy.judge(
            attempt=attempt.n,
            status=attempt.status,
            retry_after=retry_after,
            now_s=(attempt.at_ms + attempt.duration_ms) / 1000,
            since_s=claimed.since_ms / 1000,
        )
        end = End(verdict.outcome.value)
        settlement = Settlement(claimed, end, int(verdict.delay_s * 1000), attempt)
        self._ended.append(Ended(lane, settlement, source))
        if end is End.RETRY:
            self._wake_no_later(lane, verdict.delay_s)
        # In an ordered target what has just ended may have made the next of its transaction due.
        if (lane.look_again or lane.ordered) and lane.name in self._lanes and not self._stopping:
            self._wanting[lane.name] = None
        self._turn()

    def _wake_no_later(self, lane: Lane, delay_s: float) -> None:
        when = asyncio.get_running_loop().time() + delay_s
        if lane.timer is None or lane.timer.cancelled() or lane.timer.when() > when:
            self._wake_at(lane, delay_s)

    async def drain(self, grace_s: float) -> None:
        """Claim no more, wait for what is in flight, then hand the rest back uncharged."""
        self._stopping = True
        for lane in self._lanes.values():
            self._wake_at(lane, None)
        if self._answering:
            await asyncio.wait(self._answering, timeout=grace_s)
        if self._turning:
            await asyncio.wait([self._turning], timeout=grace_s)
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=grace_s)
        left = list(self._in_flight)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._ended:
            self._turn()
        if self._turning:
            await asyncio.wait([self._turning], timeout=grace_s)
        log.info("drained", handed_back=len(left))


def _log(item: Ended, counted: bool) -> None:
    """Write the one line of an attempt."""
    settlement, attempt = item.settlement, item.settlement.attempt
    if attempt is None:
        return  # handed back: no attempt
    end = settlement.end
    log.info(
        "delivery",
        event_id=settlement.claimed.event_id,
        source=item.source,
        target=item.lane.name,
        outcome=end.value if counted else f"{end.value}, too late to count",
        attempt=attempt.n,
        status=attempt.status,
        error=attempt.error or None,
        duration_ms=attempt.duration_ms,
        next_in_s=settlement.delay_ms / 1000 if end is End.RETRY else None,
    )
