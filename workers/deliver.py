"""Due deliveries → attempts → done, later or dead. Lives on the loop; no thread waits for a target."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter

import structlog

from shared.delivery.verdicts import succeeded
from shared.errors import StoreUnavailable
from shared.event.record import EventRecord
from shared.http import Answer, Egress
from shared.settings import Config
from shared.store.bells import Bells
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.due import Attempt, Claimed, Claims, DueSets, End, Patience, Settlement, Wish
from workers.attempt import Ended, UnderWay
from workers.lane import Lane
from workers.recent import Recent

log = structlog.get_logger()

SLOTS = 1024
CLAIM_AT_ONCE = 16
SETTLE_AT_ONCE = 200
SETTLE_AGAIN_S = 0.5


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
        self._in_flight: set[UnderWay] = set()
        self._all_ended: asyncio.Event | None = None
        self._looking: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.configure(config)

    def configure(self, config: Config) -> None:
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
                lane.configure(config, target)
            lanes[target.name] = lane
        for name, lane in self._lanes.items():
            if name not in lanes:
                self._wake_at(lane, None)
        self._lanes = lanes
        # Those of targets that are gone stay, for what is under way.
        self._patience |= {name: lane.patience for name, lane in lanes.items()}

    def look_at(self, target: str) -> None:
        """Deliver what is due at a target for which a doorbell rang; returns at once."""
        if not self._stopping:
            task = asyncio.get_running_loop().create_task(self._look_at(target))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _look_at(self, target: str) -> None:
        try:
            # The flag goes down before the set is read: what becomes due after that rings anew.
            await self._bells.lower_flag(Doorbell(DELIVER, target))
        except StoreUnavailable as error:
            log.warning(
                "doorbell's flag not lowered", target=target, reason=str(error)
            )  # the sweep rings again
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
            item.log(counted)
        for target, change in turn.news.items():
            if change == "disabled":
                log.error("target disabled", target=target)
            else:
                log.warning(f"breaker {change}", target=target)
        return True

    async def _start_claims(self, lane: Lane, wish: Wish, claims: Claims, claimed_at: float) -> None:
        begin = partial(self._begin, claims.now_ms, claimed_at)
        known = [(each, self._recent.take(each.event_id)) for each in claims.entries]
        self._start(lane, [(each, event) for each, event in known if event], begin)
        if missing := [each for each, event in known if not event]:
            self._start(lane, await self._read(lane, missing), begin)
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

    async def _read(self, lane: Lane, claimed: Sequence[Claimed]) -> list[tuple[Claimed, EventRecord]]:
        """Read claimed events. What cannot be read is handed back; what is gone is dropped by that."""
        try:
            events = await self._due.read([each.event_id for each in claimed])
        except StoreUnavailable as error:
            log.warning("events not read", target=lane.name, events=len(claimed), reason=str(error))
            events = [None] * len(claimed)
        found = list(zip(claimed, events, strict=True))
        self._ended += [Ended(lane, Settlement(each, End.BACK)) for each, event in found if event is None]
        return [(each, event) for each, event in found if event is not None]

    def _wake_at(self, lane: Lane, next_due_s: float | None) -> None:
        """Be back for the next retry when it is due: the sweep alone would be up to a second late."""
        if lane.timer:
            lane.timer.cancel()
            lane.timer = None
        if next_due_s is not None:
            loop = asyncio.get_running_loop()
            lane.timer = loop.call_later(next_due_s + 0.001, self.kick, lane.name)

    def _start(
        self,
        lane: Lane,
        claimed: Sequence[tuple[Claimed, EventRecord]],
        begin: Callable[[Sequence[UnderWay]], None],
    ) -> None:
        if self._stopping:  # claimed too late to be tried
            self._ended += [Ended(lane, Settlement(each, End.BACK)) for each, _ in claimed]
            return
        starting = [UnderWay(lane, each, event) for each, event in claimed]
        lane.in_flight += len(starting)
        self._in_flight.update(starting)
        # The next turn's request goes out before: Redis stood idle while all of these were sent.
        asyncio.get_running_loop().call_soon(begin, starting)

    def _begin(self, now_ms: int, claimed_at: float, starting: Sequence[UnderWay]) -> None:
        for under_way in starting:
            if under_way not in self._in_flight:
                continue  # handed back meanwhile
            lane = under_way.lane
            answered = partial(self._answered, under_way)
            try:
                request = under_way.start(now_ms, claimed_at)
                under_way.exchange = self._egress.begin(
                    lane.outgoing.endpoint, request, lane.target.timeout, answered
                )
            except Exception as error:
                answered(error)

    def _answered(self, under_way: UnderWay, result: Answer | Exception) -> None:
        attempt = under_way.record(result, self._most_error_bytes)
        self._let_go(under_way)
        retry_after = result.retry_after if isinstance(result, Answer) else None
        self._finish(
            under_way.lane,
            under_way.claimed,
            attempt,
            retry_after=retry_after,
            source=under_way.event.source,
        )

    def _let_go(self, under_way: UnderWay) -> None:
        under_way.exchange = None
        under_way.lane.in_flight -= 1
        self._in_flight.discard(under_way)
        if self._all_ended is not None and not self._in_flight:
            self._all_ended.set()

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
        end, delay_s, reason = End.DONE, 0.0, None
        if not succeeded(attempt.status):
            verdict = lane.policy.judge(
                attempt=attempt.n,
                status=attempt.status,
                retry_after=retry_after,
                now_s=(attempt.at_ms + attempt.duration_ms) / 1000,
                age_s=(claimed.age_ms + attempt.duration_ms) / 1000,
            )
            end, delay_s, reason = End(verdict.outcome.value), verdict.delay_s, verdict.reason
        settlement = Settlement(claimed, end, int(delay_s * 1000), attempt, reason)
        self._ended.append(Ended(lane, settlement, source))
        if end is End.RETRY:
            self._wake_no_later(lane, delay_s)
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
        if self._looking:
            await asyncio.wait(self._looking, timeout=grace_s)
        if self._turning:
            await asyncio.wait([self._turning], timeout=grace_s)
        if self._in_flight:
            self._all_ended = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), grace_s)
        left = list(self._in_flight)
        for under_way in left:
            if under_way.exchange is not None:
                under_way.exchange.cancel()
            self._let_go(under_way)
            self._ended.append(Ended(under_way.lane, Settlement(under_way.claimed, End.BACK)))
        if self._ended:
            self._turn()
        if self._turning:
            await asyncio.wait([self._turning], timeout=grace_s)
        log.info("drained", handed_back=len(left))
