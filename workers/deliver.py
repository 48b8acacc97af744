"""Due deliveries → attempts → done, later or dead. Lives on the loop; no thread waits for a target."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

import structlog

from shared.config import Config
from shared.doorbell import DELIVER, Doorbell
from shared.egress import Answer, Egress
from shared.errors import EgressError, StoreUnavailable
from shared.events import EventRecord
from shared.grouping import GroupCommit
from shared.store.bells import Bells
from shared.store.due import Attempt, Claimed, Claims, DueSets, End, Patience, Settlement, Wish
from workers.lane import Lane

log = structlog.get_logger()

SLOTS = 1024
CLAIM_AT_ONCE = 16
SETTLE_AT_ONCE = 200
SETTLE_AGAIN_S = 0.5
ANSWER_KEPT_BYTES = 1024


class Deliverer:
    """Delivers what is due, for all targets of this process's configuration."""

    def __init__(self, config: Config, due: DueSets, bells: Bells, egress: Egress) -> None:
        self._due = due
        self._bells = bells
        self._egress = egress
        self._lanes: dict[str, Lane] = {}
        self._patience: dict[str, Patience] = {}
        self._settling: GroupCommit[Settlement, bool] = GroupCommit(self._settle, limit=SETTLE_AT_ONCE)
        # Lanes that look at the same moment share a round trip, and never a connection each.
        self._wishes: GroupCommit[Wish, Claims] = GroupCommit(due.claim_many, limit=CLAIM_AT_ONCE)
        self._in_flight: set[asyncio.Task[None]] = set()
        self._claiming: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.use(config)

    def use(self, config: Config) -> None:
        """Take up a configuration: attempts from now on are made by it, those under way are not touched.

        A target that is not in it any more is left alone: another process may still have it.
        """
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
            self._claiming.add(task)
            task.add_done_callback(self._claiming.discard)

    async def _answer(self, target: str) -> None:
        try:
            # The flag goes down before the set is read: what becomes due after that rings anew.
            await self._bells.answered(Doorbell(DELIVER, target))
        except StoreUnavailable as error:
            log.warning("doorbell not answered", target=target, reason=str(error))  # the sweep rings again
        else:
            self.kick(target)

    def kick(self, target: str) -> None:
        """Look for what is due at a target, unless that is being done; unknown targets are left alone."""
        lane = self._lanes.get(target)
        if lane is None or self._stopping:
            return
        if lane.claiming:
            lane.look_again = True
            return
        lane.claiming = True
        task = asyncio.get_running_loop().create_task(self._claim(lane))
        self._claiming.add(task)
        task.add_done_callback(self._claiming.discard)

    async def _claim(self, lane: Lane) -> None:
        try:
            while not self._stopping:
                lane.look_again = False
                # At most half of what is free goes to one target, so that no target ever takes the last.
                free = SLOTS - len(self._in_flight)
                most = min(lane.target.concurrency - lane.in_flight, (free + 1) // 2)
                if most <= 0:
                    lane.look_again = True
                    break
                claims = await self._wishes.add(Wish(lane.name, most, lane.limits))
                claimed_at = perf_counter()
                for claimed, event in claims.entries:
                    self._start(lane, claimed, event, claims.now_ms, claimed_at)
                if claims.more:
                    lane.look_again = True
                    if len(claims.entries) < most:
                        break  # the target's concurrency is used up, by us or by others
                    if lane.in_flight < lane.target.concurrency:
                        await self._bells.ring([Doorbell(DELIVER, lane.name)])
                    continue
                self._wake_at(lane, claims.next_due_s)
                if not lane.look_again:
                    break
        except StoreUnavailable as error:
            log.warning("claim failed", target=lane.name, reason=str(error))  # the sweep rings again
        finally:
            lane.claiming = False

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
            try:
                headers, body = lane.outgoing.request(event, at_ms)
                answer = await self._egress.post(lane.outgoing.endpoint, headers, body, lane.target.timeout)
            except EgressError as error:
                failure = str(error)
            except asyncio.CancelledError:
                self._settling.add(Settlement(claimed, End.BACK))
                raise
            except Exception as error:
                # A mistake of ours must not hold the delivery in a circle of leases that run out: it is a
                # failed attempt, and the schedule goes on. The error's text may quote the payload.
                log.error("attempt failed by itself", event_id=claimed.event_id, error=type(error).__name__)
                failure = f"internal: {type(error).__name__}"
            attempt = Attempt(
                n=claimed.failed + 1,
                at_ms=at_ms,
                duration_ms=round((perf_counter() - started) * 1000, 2),
                status=answer.status if answer else None,
                error=failure,
                answer=answer.body[:ANSWER_KEPT_BYTES].decode("utf-8", "replace") if answer else "",
            )
            await self._finish(
                lane,
                claimed,
                attempt,
                retry_after=answer.retry_after if answer else None,
                source=event.source,
            )
        except StoreUnavailable as error:  # only while this process ends: the lease runs out
            log.warning("not settled", event_id=claimed.event_id, target=lane.name, reason=str(error))
        finally:
            lane.in_flight -= 1
            # In an ordered target what has just ended may have made the next of its transaction due.
            if lane.look_again or lane.ordered:
                self.kick(lane.name)

    async def finish_lapsed(self, claimed: Claimed, now_ms: int) -> None:
        """Count a delivery that workers died with again and again as a failed attempt."""
        error = "lease: the workers that held it died, ten times"
        attempt = Attempt(n=claimed.failed + 1, at_ms=now_ms, duration_ms=0, error=error)
        await self._finish(self._lanes[claimed.target], claimed, attempt)

    async def _finish(
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
        end, delay_ms = End(verdict.outcome.value), int(verdict.delay_s * 1000)
        counted = await self._settling.add(Settlement(claimed, end, delay_ms, attempt))
        if end is End.RETRY:
            self._wake_no_later(lane, verdict.delay_s)
        log.info(
            "delivery",
            event_id=claimed.event_id,
            source=source,
            target=lane.name,
            outcome=end.value if counted else f"{end.value}, too late to count",
            attempt=attempt.n,
            status=attempt.status,
            error=attempt.error or None,
            duration_ms=attempt.duration_ms,
            next_in_s=round(verdict.delay_s, 3) if end is End.RETRY else None,
        )

    def _wake_no_later(self, lane: Lane, delay_s: float) -> None:
        when = asyncio.get_running_loop().time() + delay_s
        if lane.timer is None or lane.timer.cancelled() or lane.timer.when() > when:
            self._wake_at(lane, delay_s)

    async def _settle(self, batch: Sequence[Settlement]) -> Sequence[bool | Exception]:
        """Write how attempts ended; again while Redis is away: all of it can be said twice."""
        while True:
            try:
                settled, news = await self._due.settle(batch, self._patience)
            except StoreUnavailable as error:
                log.warning("settling failed, trying again", deliveries=len(batch), reason=str(error))
                if self._stopping:
                    raise  # the leases run out, and another worker delivers again
                await asyncio.sleep(SETTLE_AGAIN_S)
            else:
                for target, change in news.items():
                    log.error(f"target {change}", target=target) if change == "disabled" else log.warning(
                        f"breaker {change}", target=target
                    )
                return settled

    async def drain(self, grace_s: float) -> None:
        """Claim no more, wait for what is in flight, then hand the rest back uncharged."""
        self._stopping = True
        for lane in self._lanes.values():
            self._wake_at(lane, None)
        if self._claiming:
            await asyncio.wait(self._claiming, timeout=grace_s)
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=grace_s)
        left = list(self._in_flight)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._settling.flush()
        log.info("drained", handed_back=len(left))
