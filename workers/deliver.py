"""Delivers: claims what is due, and tells Redis how each attempt ended: done, due later, or dead.

It runs on the loop; no thread waits for a target. `workers.attempts` makes the attempts.
"""

import asyncio
from collections.abc import Iterable, Sequence
from time import perf_counter

import structlog

from shared.errors import StoreUnavailable
from shared.event.record import EventRecord
from shared.http import Egress
from shared.settings import Config
from shared.store.bells import Bells
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.due import Attempt, BreakerPolicy, Claimed, ClaimRequest, Claims, DueSets, End, Settlement
from workers.attempts import Attempts, EndedClaim
from workers.recent import Recent
from workers.served import ServedTarget

log = structlog.get_logger()

CLAIM_AT_ONCE = 16
SETTLE_AT_ONCE = 200
SETTLE_AGAIN_S = 0.5


class Deliverer:
    """Delivers what is due, for all targets of this process's configuration.

    It makes one round trip to Redis after another. While one is under way, ended claims and targets with more
    to claim gather for the next. Each round trip settles before it claims, so that the freed room is used at
    once.
    """

    def __init__(self, config: Config, due: DueSets, bells: Bells, egress: Egress) -> None:
        self._due = due
        self._bells = bells
        self._attempts = Attempts(egress, self._claim_ended)
        self._targets: dict[str, ServedTarget] = {}
        self._breaker_policies: dict[str, BreakerPolicy] = {}
        self._recent = Recent()
        self._unsettled: list[EndedClaim] = []
        self._wanting: dict[str, None] = {}
        self._asking: asyncio.Task[None] | None = None
        self._looking: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply a configuration to attempts from now on; those under way are not touched.

        A target that is no longer in it is left alone: another process may still have it.
        """
        self._attempts.configure(config.retention.max_error_bytes)
        targets = {}
        for settings in config.targets:
            target = self._targets.get(settings.name)
            if target is None:
                target = ServedTarget(config, settings)
            else:
                target.configure(config, settings)
            targets[settings.name] = target
        for name, target in self._targets.items():
            if name not in targets:
                self._wake_at(target, None)
        self._targets = targets
        # Removed targets stay here for their attempts under way.
        self._breaker_policies |= {name: target.breaker_policy for name, target in targets.items()}

    def look_at(self, target: str) -> None:
        """Deliver what is due at a target for which a doorbell rang; returns at once."""
        if not self._stopping:
            task = asyncio.get_running_loop().create_task(self._look_at(target))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _look_at(self, target: str) -> None:
        try:
            # The flag is lowered before the set is read: what becomes due after that rings again.
            await self._bells.lower_flag(Doorbell(DELIVER, target))
        except StoreUnavailable as error:
            # The sweep rings again.
            log.warning("doorbell's flag not lowered", target=target, reason=str(error))
        else:
            self.kick(target)

    def admitted(self, events: Iterable[tuple[EventRecord, Sequence[str]]]) -> None:
        """Keep what this process admitted for these targets until it has claimed it."""
        for event, targets in events:
            self._recent.keep(event, len(targets))
            if self._asking is None:  # the claim came too soon: Redis had to be told the scripts first
                for target in targets:
                    self.kick(target)

    def kick(self, target: str) -> None:
        """Claim what is due at a target in the next round trip. Unknown targets are left alone."""
        if target in self._targets and not self._stopping:
            self._wanting[target] = None
            self._ask_soon()

    def _ask_soon(self) -> None:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        try:
            while self._unsettled or self._wanting:
                ended = self._unsettled[:SETTLE_AT_ONCE]
                self._unsettled = self._unsettled[SETTLE_AT_ONCE:]
                if not await self._round_trip(ended, self._claim_requests()):
                    # A repeat is harmless. They stay in order: what has waited longest goes first.
                    self._unsettled = ended + self._unsettled
                    if self._stopping:
                        for item in self._unsettled:  # another worker delivers them, when leases run out
                            log.warning(
                                "not settled",
                                event_id=item.settlement.claimed.event_id,
                                target=item.target.name,
                            )
                        return
                    await asyncio.sleep(SETTLE_AGAIN_S)
        finally:
            self._asking = None

    def _claim_requests(self) -> list[ClaimRequest]:
        """Return requests for as many deliveries as this process could start now, for some targets with more
        to claim.
        """
        requests: list[ClaimRequest] = []
        free = self._attempts.free
        for name in list(self._wanting)[:CLAIM_AT_ONCE]:
            del self._wanting[name]
            target = self._targets.get(name)
            if target is None or self._stopping:
                continue
            # One target gets at most half of what is free, so that none ever takes the last.
            # And at most half of its concurrency: one half is sent while Redis is asked about the other.
            concurrency = target.settings.concurrency
            most = min(concurrency - target.in_flight, (concurrency + 1) // 2, (free + 1) // 2)
            target.look_again = most <= 0
            if most > 0:
                free -= most
                requests.append(ClaimRequest(name, most, target.limits))
        return requests

    async def _round_trip(self, ended: Sequence[EndedClaim], requests: Sequence[ClaimRequest]) -> bool:
        """Settle and claim. Returns False if the settlements must be repeated."""
        if not ended and not requests:
            return True
        try:
            reply = await self._due.settle_and_claim(
                [item.settlement for item in ended], self._breaker_policies, requests
            )
        except StoreUnavailable as error:
            # The sweep rings for what is due and not claimed.
            log.warning(
                "Redis did not answer", deliveries=len(ended), claims=len(requests), reason=str(error)
            )
            return not ended
        claimed_at = perf_counter()
        for request, claims in zip(requests, reply.claims, strict=True):
            target = self._targets.get(request.target)
            if isinstance(claims, Exception):
                log.warning(
                    "claim failed", target=request.target, reason=str(claims)
                )  # the sweep rings again
            elif target is not None:  # else its lease runs out, and another worker delivers
                await self._start_claims(target, request, claims, claimed_at)
        if reply.failure:
            log.warning("settling failed", deliveries=len(ended), reason=str(reply.failure))
            return False
        for item, counted in zip(ended, reply.counted, strict=True):
            item.log(counted)
        for name, change in reply.changes.items():
            if change == "disabled":
                log.error("target disabled", target=name)
            else:
                log.warning(f"breaker {change}", target=name)
        return True

    async def _start_claims(
        self, target: ServedTarget, request: ClaimRequest, claims: Claims, claimed_at: float
    ) -> None:
        known = [(each, self._recent.take(each.event_id)) for each in claims.entries]
        self._start(target, [(each, event) for each, event in known if event], claims.now_ms, claimed_at)
        if missing := [each for each, event in known if not event]:
            self._start(target, await self._read(target, missing), claims.now_ms, claimed_at)
        if not claims.more:
            self._wake_at(target, claims.next_due_s)
            return
        target.look_again = True
        # Fewer than requested: the target's concurrency is used up, here or elsewhere.
        room = target.settings.concurrency - target.in_flight
        if len(claims.entries) < request.most or room <= 0:
            return
        self._wanting[target.name] = None
        if room > self._attempts.free:  # more than this process can take: let others join in
            try:
                await self._bells.ring([Doorbell(DELIVER, target.name)])
            except StoreUnavailable as error:
                log.warning("doorbell not rung", target=target.name, reason=str(error))  # the sweep rings

    async def _read(
        self, target: ServedTarget, claimed: Sequence[Claimed]
    ) -> list[tuple[Claimed, EventRecord]]:
        """Read claimed events.

        Claims of those that cannot be read are handed back; that also drops those that are gone.
        """
        try:
            events = await self._due.read([each.event_id for each in claimed])
        except StoreUnavailable as error:
            log.warning("events not read", target=target.name, events=len(claimed), reason=str(error))
            events = [None] * len(claimed)
        found = list(zip(claimed, events, strict=True))
        self._hand_back(target, [each for each, event in found if event is None])
        return [(each, event) for each, event in found if event is not None]

    def _start(
        self,
        target: ServedTarget,
        claimed: Sequence[tuple[Claimed, EventRecord]],
        now_ms: int,
        claimed_at: float,
    ) -> None:
        if self._stopping:  # the lease would run out during the attempt
            self._hand_back(target, [each for each, _ in claimed])
        else:
            self._attempts.start(target, claimed, now_ms, claimed_at)

    def _hand_back(self, target: ServedTarget, claimed: Iterable[Claimed]) -> None:
        self._unsettled += [EndedClaim(target, Settlement(each, End.BACK)) for each in claimed]

    def finish_lapsed(self, claimed: Claimed, now_ms: int) -> None:
        """Count a failed attempt for a delivery that several workers died with."""
        error = "lease: the workers that held it died, ten times"
        attempt = Attempt(n=claimed.failed + 1, at_ms=now_ms, duration_ms=0, error=error)
        self._attempts.judge(self._targets[claimed.target], claimed, attempt)

    def _claim_ended(self, ended: EndedClaim) -> None:
        target, settlement = ended.target, ended.settlement
        self._unsettled.append(ended)
        if settlement.end is End.RETRY:
            self._wake_no_later(target, settlement.delay_ms / 1000)
        # In an ordered target, the end of a delivery may make the next one of its transaction due.
        if (target.look_again or target.ordered) and target.name in self._targets and not self._stopping:
            self._wanting[target.name] = None
        self._ask_soon()

    def _wake_at(self, target: ServedTarget, next_due_s: float | None) -> None:
        """Claim again when the next retry is due: the sweep alone would be up to a second late."""
        if target.timer:
            target.timer.cancel()
            target.timer = None
        if next_due_s is not None:
            loop = asyncio.get_running_loop()
            target.timer = loop.call_later(next_due_s + 0.001, self.kick, target.name)

    def _wake_no_later(self, target: ServedTarget, delay_s: float) -> None:
        when = asyncio.get_running_loop().time() + delay_s
        if target.timer is None or target.timer.cancelled() or target.timer.when() > when:
            self._wake_at(target, delay_s)

    async def drain(self, grace_s: float) -> None:
        """Claim no more, wait for the attempts in flight, then hand the rest back uncharged."""
        self._stopping = True
        for target in self._targets.values():
            self._wake_at(target, None)
        if self._looking:
            await asyncio.wait(self._looking, timeout=grace_s)
        if self._asking:
            await asyncio.wait([self._asking], timeout=grace_s)
        handed_back = await self._attempts.drain(grace_s)
        if self._unsettled:
            self._ask_soon()
        if self._asking:
            await asyncio.wait([self._asking], timeout=grace_s)
        log.info("drained", handed_back=handed_back)
