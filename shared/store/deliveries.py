"""Where one event went: the state of each of its deliveries, and every attempt."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.event.times import rfc3339_ms
from shared.store.client import RedisClient, translated
from shared.store.clock import in_ms
from shared.store.due import Attempt
from shared.store.events import PIECES, all_attempts, read_fields
from shared.store.views import (
    IN_FLIGHT,
    ON_DISK,
    WAITING,
    DeliveryView,
    attempt_view,
    read_attempt,
    state_of,
)
from shared.store.why import WaitFacts, Why, why_given_up, why_waiting


class _Delivery(msgspec.Struct, frozen=True):
    """One delivery of an event, as Redis holds it. `ahead` is the first of its lane, if that is another."""

    target: str
    end: str
    failed: int
    reason: bytes | None
    due_ms: int | None
    leased_ms: int | None
    ahead: str | None

    @property
    def waits(self) -> bool:
        return not self.end and self.leased_ms is None


class Deliveries:
    """What Redis holds of the deliveries of an event."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def of_event(
        self, event_id: str, *, answers: bool = False, concurrency: Mapping[str, int] | None = None
    ) -> list[DeliveryView] | None:
        """Return an event's deliveries, in the order of its targets; None if there is no such event.

        `concurrency` is that of each configured target. Raises: StoreUnavailable.
        """
        found = await self._read(event_id)
        if found is None:
            return None
        deliveries, attempts = found
        made: dict[str, list[Attempt]] = {}
        for field, value in attempts.items():
            # A target's name holds no space.
            made.setdefault(field.decode().partition(" ")[0], []).append(read_attempt(value))
        for each in made.values():
            each.sort(key=lambda attempt: attempt.at_ms)
        waiting = await self._waiting(
            event_id, [delivery for delivery in deliveries if delivery.waits], concurrency or {}
        )
        views = []
        for delivery in deliveries:
            name = delivery.target
            why = waiting.get(name)
            if delivery.end in ("dead", ON_DISK, "expired", "discarded"):
                last = made[name][-1] if name in made else None
                why = why_given_up(delivery.reason, delivery.failed, last)
            views.append(
                DeliveryView(
                    target=name,
                    state=state_of(delivery.end)
                    or (IN_FLIGHT if delivery.leased_ms is not None else WAITING),
                    failed=delivery.failed,
                    due_at=_time(delivery.due_ms) if not delivery.end else None,
                    leased_until=_time(delivery.leased_ms) if not delivery.end else None,
                    attempts=[attempt_view(attempt, answers=answers) for attempt in made.get(name, ())],
                    why=why,
                )
            )
        return views

    async def _read(self, event_id: str) -> tuple[list[_Delivery], dict[bytes, bytes]] | None:
        """Return each delivery of an event, and the attempts as Redis holds them."""
        event = self._keys.event(event_id)
        redis: Any = self._client.redis
        with translated():
            targets, ordered, transaction = await redis.hmget(event, ["targets", "ordered", "transaction"])
            if targets is None:
                return None
            names = [name for name in targets.decode().split(",") if name]
            lanes = (ordered or b"").decode().split(",")
            # One transaction: a delivery that moves meanwhile is seen once, in one of its places.
            pipe = redis.pipeline(transaction=True)
            for name in names:
                pipe.hmget(event, [f"end:{name}", f"failed:{name}", f"why:{name}"])
                pipe.zscore(self._keys.due(name), event_id)
                pipe.zscore(self._keys.leased(name), event_id)
                pipe.lindex(self._keys.lane(name, transaction.decode() if name in lanes else ""), 0)
            pipe.hgetall(self._keys.attempts(event_id))
            pipe.hmget(event, PIECES)
            *found, apart, pieces = await pipe.execute()
        rows = zip(names, found[::4], found[1::4], found[2::4], found[3::4], strict=True)
        return [_delivery(event_id, *row) for row in rows], all_attempts(event_id, apart, pieces)

    async def _waiting(
        self, event_id: str, deliveries: Sequence[_Delivery], concurrency: Mapping[str, int]
    ) -> dict[str, Why]:
        """Return why each of these waits, by target."""
        if not deliveries:
            return {}
        redis: Any = self._client.redis
        with translated():
            pipe = redis.pipeline(transaction=True)
            pipe.time()
            for delivery in deliveries:
                pipe.hmget(self._keys.target(delivery.target), ["state", "reason", "open_until"])
                pipe.get(self._keys.rate(delivery.target))
                pipe.zcard(self._keys.leased(delivery.target))
                pipe.hmget(self._keys.event(delivery.ahead or ""), ["open", f"end:{delivery.target}"])
            time, *found = await pipe.execute()
        # `data` may be large, and only the transaction's id in it is needed.
        name = "data" if any(delivery.ahead for delivery in deliveries) else ""
        [[data]] = await read_fields(self._client, [(event_id, [name])])
        transaction = msgspec.json.decode(data, type=_Transaction).transaction_id if data else None
        whys = {}
        for delivery, (state, reason, open_until), rate_at, in_flight, (open_, end) in zip(
            deliveries, found[::4], found[1::4], found[2::4], found[3::4], strict=True
        ):
            facts = WaitFacts(
                failed=delivery.failed,
                due_ms=delivery.due_ms,
                ahead=delivery.ahead,
                # If the dead letter was moved to the disk, its event may be gone from Redis.
                ahead_is_dead=delivery.ahead is not None and (open_ is None or end is not None),
                transaction=transaction,
                state=(state or b"").decode(),
                reason=(reason or b"").decode("utf-8", "replace"),
                open_until_ms=int(float(open_until)) if open_until else None,
                rate_at_ms=-(-int(rate_at) // 1000) if rate_at else None,
                in_flight=in_flight,
                concurrency=concurrency.get(delivery.target),
            )
            whys[delivery.target] = why_waiting(facts, in_ms(time))
        return whys


class _Transaction(msgspec.Struct, frozen=True):
    """The part of `data` that names the transaction."""

    transaction_id: str | None = None


def _delivery(
    event_id: str,
    target: str,
    fields: Sequence[bytes | None],
    due: float | None,
    leased: float | None,
    first: bytes | None,
) -> _Delivery:
    end, failed, reason = fields
    return _Delivery(
        target=target,
        end=end.decode() if end else "",
        failed=int(failed or 0),
        reason=reason,
        due_ms=None if due is None else int(due),
        leased_ms=None if leased is None else int(leased),
        ahead=first.decode() if first and first.decode() != event_id else None,
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339_ms(ms)
