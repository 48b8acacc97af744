"""What is known of targets, and what operators and the sweep do with them: state, burial, removal."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from shared.store import keys
from shared.store.audit import note
from shared.store.client import RedisClient, translated

BURY_AT_ONCE = 500
REMOVED = "not sent: the target was removed"
FORGOTTEN_AFTER_MS = 300_000


class State(StrEnum):
    """What a target gets: all that is due; nothing, and all is kept; nothing, and all is buried."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """One target as it stands. Times are milliseconds since 1970 by Redis's clock, waits are seconds.

    `oldest_wait_s` is how long the first in line is due already; `succeeded` and `failed` count attempts of
    this hour and the one before; `probe_in_s` is set while the breaker is open.
    """

    name: str
    state: str
    reason: str
    state_since_ms: int | None
    backlog: int
    oldest_wait_s: float | None
    in_flight: int
    dead_letters: int
    succeeded: int
    failed: int
    failures_in_a_row: int
    failing_since_ms: int | None
    probe_in_s: float | None
    last_error: str
    last_failed_ms: int | None

    @property
    def breaker(self) -> str:
        """`closed`, `open` until its next probe, or `half-open` while that may go."""
        if self.probe_in_s is None:
            return "closed"
        return "open" if self.probe_in_s > 0 else "half-open"

    @property
    def success_rate(self) -> float | None:
        """The share of attempts that succeeded lately; None where there were none."""
        attempts = self.succeeded + self.failed
        return self.succeeded / attempts if attempts else None


class Targets:
    """The targets as Redis knows them."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def views(self, names: Sequence[str]) -> list[TargetView]:
        """Return how each of `names` stands. Raises: StoreUnavailable."""
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            pipe.time()
            for name in names:
                pipe.hgetall(keys.target(name))
                pipe.zcard(keys.due(name))
                pipe.zrange(keys.due(name), 0, 0, withscores=True)
                pipe.zcard(keys.leased(name))
                pipe.zcard(keys.dead(name))
            (seconds, micros), *found = await pipe.execute()
        now = seconds * 1000 + micros // 1000
        rows = zip(names, *(found[offset::5] for offset in range(5)), strict=True)
        return [_view(now, *row) for row in rows]

    async def set_state(self, name: str, state: State, reason: str, *, user: str) -> None:
        """Pause, disable or make active: then with a clean slate, no failures and no open breaker.

        Said twice, the second is the same. Raises: StoreUnavailable.
        """
        await note(self._client, f"target {state.value}", user, {"target": name, "reason": reason})
        with translated():
            seconds, micros = await self._client.redis.time()
            pipe = self._client.redis.pipeline(transaction=True)
            if state is State.ACTIVE:
                pipe.hdel(keys.target(name), "state", "reason", "state_since", *_STREAK)
            else:
                since = seconds * 1000 + micros // 1000
                pipe.hset(
                    keys.target(name),
                    mapping={"state": state.value, "reason": reason, "state_since": since},
                )
            await pipe.execute()

    async def bury(self, name: str, *, due_before_ms: int | None, why: str, hold: bool = False) -> int:
        """Make dead letters of some of what waits for a target: all (None), or what was due before a time.

        In an ordered target the next of the same transaction is due then, unless dead letters `hold` it.
        Returns how many; call again while it is BURY_AT_ONCE. Raises: StoreUnavailable.
        """
        count: int = await self._client.run(
            "bury",
            [keys.due(name), keys.dead(name)],
            [
                name,
                "+inf" if due_before_ms is None else due_before_ms,
                BURY_AT_ONCE,
                why,
                "hold" if hold else "",
            ],
        )
        return count

    async def remove(self, name: str, *, user: str) -> int:
        """Make dead letters of all that waits for a target that left the configuration, and let go of it.

        Returns how many. Raises: StoreUnavailable.
        """
        await note(self._client, "target removed", user, {"target": name})
        total = 0
        while count := await self.bury(name, due_before_ms=None, why=REMOVED):
            total += count
        await self.forget(name)
        return total

    async def know(self, names: Iterable[str]) -> list[str]:
        """Say that a live process has these targets in its configuration.

        Returns all other names that are on record and that no live process has said for five minutes.
        Raises: StoreUnavailable.
        """
        mine = list(names)
        with translated():
            seconds, micros = await self._client.redis.time()
            now = seconds * 1000 + micros // 1000
            if mine:
                await self._client.redis.zadd(keys.TARGETS, dict.fromkeys(mine, now))
            forgotten: list[Any] = await self._client.redis.zrangebyscore(
                keys.TARGETS, "-inf", now - FORGOTTEN_AFTER_MS
            )
        return [name.decode() for name in forgotten]

    async def on_record(self) -> list[str]:
        """Return every name that was ever said and is not forgotten. Raises: StoreUnavailable."""
        with translated():
            names: list[Any] = await self._client.redis.zrange(keys.TARGETS, 0, -1)
        return [name.decode() for name in names]

    async def forget(self, name: str) -> bool:
        """Drop a target from the record, if nothing of it is left to keep. Raises: StoreUnavailable."""
        with translated():
            left = await self._client.redis.exists(keys.due(name), keys.leased(name), keys.dead(name))
            if not left:
                pipe = self._client.redis.pipeline(transaction=True)
                pipe.zrem(keys.TARGETS, name)
                pipe.delete(keys.target(name), keys.rate(name))
                await pipe.execute()
        return not left


_STREAK = ("failures", "failing_since", "trips", "open_until")


def _view(
    now: int,
    name: str,
    known: Mapping[bytes, bytes],
    backlog: int,
    first: Sequence[tuple[bytes, float]],
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
    due_since: Any = first[0][1] if first else None
    return TargetView(
        name=name,
        state=text(b"state") or State.ACTIVE.value,
        reason=text(b"reason"),
        state_since_ms=number(b"state_since"),
        backlog=backlog,
        oldest_wait_s=max(0.0, now - due_since) / 1000 if due_since is not None else None,
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
