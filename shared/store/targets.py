"""The state of targets, and what operators and the sweep do with them: pausing, giving up, removal."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from shared.delivery.verdicts import REMOVED, Reason
from shared.event.ids import received_ms
from shared.store.audit import note
from shared.store.client import RedisClient, translated
from shared.store.clock import now_ms
from shared.store.lanes import Lanes
from shared.store.sources import FORGOTTEN_AFTER_MS

GIVE_UP_AT_ONCE = 500
OLDEST_OF = 1000


class State(StrEnum):
    """ACTIVE targets get what is due.

    PAUSED ones get nothing, and all is kept. For DISABLED ones all is given up.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one target. Times are milliseconds since 1970 by Redis's clock, waits are seconds.

    `backlog` counts what waits, and `due_now` the part of it that is due: the rest waits for its next
    attempt, the first of them until `next_attempt_ms`. `oldest_wait_s` is the time since the oldest of the
    first 1,000 in line was received, `overdue_s` the time since the first in line was due. `held` counts what
    waits behind a dead letter of its transaction, and is not in the backlog. `succeeded` and `failed` count
    attempts of this hour and the one before; `probe_in_s` is set while the breaker is open. `on_disk` is how
    many more dead letters it has on the disk; `past_share` says how it is past its share of memory.
    """

    name: str
    state: str
    reason: str
    state_since_ms: int | None
    backlog: int
    due_now: int
    next_attempt_ms: int | None
    oldest_wait_s: float | None
    overdue_s: float | None
    held: int
    in_flight: int
    dead_letters: int
    succeeded: int
    failed: int
    failures_in_a_row: int
    failing_since_ms: int | None
    probe_in_s: float | None
    last_error: str
    last_failed_ms: int | None
    on_disk: int = 0
    past_share: str = ""

    @property
    def breaker(self) -> str:
        """`closed`, `open` until the next probe, or `half-open` while a probe may be sent."""
        if self.probe_in_s is None:
            return "closed"
        return "open" if self.probe_in_s > 0 else "half-open"

    @property
    def success_rate(self) -> float | None:
        """The share of attempts that succeeded lately; None if there were none."""
        attempts = self.succeeded + self.failed
        return self.succeeded / attempts if attempts else None


class Targets:
    """The targets as Redis knows them."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def views(self, names: Sequence[str]) -> list[TargetView]:
        """Return the state of each of `names`. Raises: StoreUnavailable."""
        now = await now_ms(self._client)
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(self._keys.target(name))
                pipe.zcard(self._keys.due(name))
                pipe.zcount(self._keys.due(name), "-inf", now)
                pipe.zrange(self._keys.due(name), 0, OLDEST_OF - 1, withscores=True)
                pipe.zrange(
                    self._keys.due(name), f"({now}", "+inf", byscore=True, offset=0, num=1, withscores=True
                )
                pipe.zcard(self._keys.leased(name))
                pipe.zcard(self._keys.dead(name))
            found = await pipe.execute() if names else []
        held = await Lanes(self._client).held(names)
        size = len(found) // max(1, len(names))
        rows = [found[start : start + size] for start in range(0, len(found), max(1, size))]
        return [_view(now, held[name], name, *row) for name, row in zip(names, rows, strict=True)]

    async def set_state(self, name: str, state: State, reason: str, *, user: str) -> None:
        """Pause or disable a target, or make it active; that also clears its failures and its breaker.

        A repeat changes nothing. Raises: StoreUnavailable.
        """
        await note(self._client, f"target {state.value}", user, {"target": name, "reason": reason})
        since = await now_ms(self._client)
        with translated():
            pipe = self._client.redis.pipeline(transaction=True)
            if state is State.ACTIVE:
                pipe.hdel(self._keys.target(name), "state", "reason", "state_since", *_STREAK)
            else:
                pipe.hset(
                    self._keys.target(name),
                    mapping={"state": state.value, "reason": reason, "state_since": since},
                )
            await pipe.execute()

    async def stopped(self, name: str) -> tuple[int, str]:
        """Return since when a target is paused or disabled (0: unknown), and the reason.

        Raises: StoreUnavailable.
        """
        redis: Any = self._client.redis
        with translated():
            since, reason = await redis.hmget(self._keys.target(name), ["state_since", "reason"])
        return int(since or 0), (reason or b"").decode("utf-8", "replace")

    async def give_up(
        self,
        name: str,
        *,
        due_before_ms: int | None,
        reason: Reason,
        hold: bool = False,
        state: State | None = None,
    ) -> int:
        """Make dead letters of deliveries that wait for a target: of all (None), or of those due before a
        time.

        With `state`, only if that is the target's state still: an operator may have enabled it meanwhile. In
        an ordered target the next of the same transaction is due then, unless dead letters `hold` it. Returns
        how many, at most GIVE_UP_AT_ONCE; if it is that, there may be more. Raises: StoreUnavailable.
        """
        count: int = await self._client.run(
            "give_up",
            [self._keys.due(name), self._keys.dead(name), self._keys.target(name)],
            [
                name,
                "+inf" if due_before_ms is None else due_before_ms,
                GIVE_UP_AT_ONCE,
                str(reason),
                "hold" if hold else "",
                state.value if state else "",
            ],
        )
        return count

    async def give_up_all(self, name: str) -> int:
        """Make dead letters of all that waits for a removed target, also of what a dead letter holds.

        Returns how many. Raises: StoreUnavailable.
        """
        lanes = Lanes(self._client)
        total = 0
        while True:
            let_go = await lanes.let_go(name)
            count = await self.give_up(name, due_before_ms=None, reason=REMOVED)
            if not let_go and not count:
                return total
            total += count

    async def remove(self, name: str, *, user: str) -> int:
        """Make dead letters of all that waits for a target that left the configuration, and remove it.

        Returns how many. Raises: StoreUnavailable.
        """
        await note(self._client, "target removed", user, {"target": name})
        await Lanes(self._client).find(name)
        total = await self.give_up_all(name)
        await self.forget(name)
        return total

    async def know(self, names: Iterable[str]) -> list[str]:
        """Record that a live process has these targets in its configuration.

        Returns the names on record that no live process has named for five minutes. Raises: StoreUnavailable.
        """
        mine = list(names)
        now = await now_ms(self._client)
        with translated():
            if mine:
                await self._client.redis.zadd(self._keys.targets, dict.fromkeys(mine, now))
            forgotten: list[Any] = await self._client.redis.zrangebyscore(
                self._keys.targets, "-inf", now - FORGOTTEN_AFTER_MS
            )
        return [name.decode() for name in forgotten]

    async def on_record(self) -> list[str]:
        """Return every name on record. Raises: StoreUnavailable."""
        with translated():
            names: list[Any] = await self._client.redis.zrange(self._keys.targets, 0, -1)
        return [name.decode() for name in names]

    async def forget(self, name: str) -> bool:
        """Take a target off the record if it has no deliveries left.

        Returns whether it did. Raises: StoreUnavailable.
        """
        with translated():
            left = await self._client.redis.exists(
                self._keys.due(name), self._keys.leased(name), self._keys.dead(name)
            )
            if not left:
                pipe = self._client.redis.pipeline(transaction=True)
                pipe.zrem(self._keys.targets, name)
                pipe.delete(self._keys.target(name), self._keys.rate(name))
                await pipe.execute()
        return not left


_STREAK = ("failures", "failing_since", "trips", "open_until")


def _view(
    now: int,
    held: int,
    name: str,
    known: Mapping[bytes, bytes],
    backlog: int,
    due_now: int,
    first: Sequence[tuple[bytes, float]],
    later: Sequence[tuple[bytes, float]],
    in_flight: int,
    dead: int,
) -> TargetView:
    def number(field: bytes) -> int | None:
        return int(float(known[field])) if field in known else None

    def text(field: bytes) -> str:
        return known.get(field, b"").decode("utf-8", "replace")

    hour, this = number(b"hour"), now // 3_600_000
    counts = {"done": 0, "failed": 0}
    for field in counts:
        here, before = number(field.encode()) or 0, number(f"{field}_before".encode()) or 0
        counts[field] = here + before if hour == this else here if hour == this - 1 else 0
    open_until = number(b"open_until")
    received = min((received_ms(id.decode()) for id, _ in first), default=None)
    return TargetView(
        name=name,
        state=text(b"state") or State.ACTIVE.value,
        reason=text(b"reason"),
        state_since_ms=number(b"state_since"),
        backlog=backlog,
        due_now=due_now,
        next_attempt_ms=int(later[0][1]) if later else None,
        oldest_wait_s=max(0.0, now - received) / 1000 if received is not None else None,
        overdue_s=max(0.0, now - first[0][1]) / 1000 if first else None,
        held=held,
        in_flight=in_flight,
        dead_letters=dead,
        succeeded=counts["done"],
        failed=counts["failed"],
        failures_in_a_row=number(b"failures") or 0,
        failing_since_ms=number(b"failing_since"),
        probe_in_s=max(0.0, open_until - now) / 1000 if open_until is not None else None,
        last_error=text(b"last_error"),
        last_failed_ms=number(b"last_failed"),
    )
