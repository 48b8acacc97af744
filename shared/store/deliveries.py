"""Where one event went: the state of each of its deliveries, every attempt, and the dead letters."""

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.events import rfc3339_ms
from shared.store import keys
from shared.store.client import RedisClient, translated
from shared.store.context import read_context
from shared.store.due import Attempt
from shared.store.walk import Span, Step, walk

WAITING = "waiting"
IN_FLIGHT = "in-flight"
ENDS = ("done", "dead", "expired")
PAGE = 100


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt. `status` is None where no answer came: `error` says why. `answer` only if asked for."""

    at: str
    n: int
    duration_ms: float
    status: int | None
    error: str
    answer: str | None


class DeliveryView(msgspec.Struct, frozen=True):
    """One event for one target.

    `state`: `waiting` (to be sent at `due_at`), `in-flight` (a worker holds it until `leased_until` at
    most), `done`, `dead`, or `expired` (a dead letter past its retention). `failed` counts the attempts of
    the present schedule, which a replay starts anew; `attempts` holds those of all schedules, oldest first.
    """

    target: str
    state: str
    failed: int
    due_at: str | None
    leased_until: str | None
    attempts: list[AttemptView]


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was given up at `died_at` after `failed` attempts; `last` is the latest of them."""

    id: str
    target: str
    died_at: str
    source: str
    type: str
    failed: int
    last: AttemptView | None


class Deliveries:
    """What the store holds of deliveries."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def of_event(self, event_id: str, *, answers: bool = False) -> list[DeliveryView] | None:
        """Return an event's deliveries, in the order of its targets; None where there is no such event.

        Raises: StoreUnavailable.
        """
        event = keys.event(event_id)
        redis: Any = self._client.redis
        with translated():
            targets = await redis.hget(event, "targets")
            if targets is None:
                return None
            names = [name for name in targets.decode().split(",") if name]
            # One transaction: a delivery is in one of its places, never between two.
            pipe = redis.pipeline(transaction=True)
            for name in names:
                pipe.hmget(event, [f"end:{name}", f"failed:{name}"])
                pipe.zscore(keys.due(name), event_id)
                pipe.zscore(keys.leased(name), event_id)
            pipe.hgetall(keys.attempts(event_id))
            *places, attempts = await pipe.execute()
        made: dict[str, list[Attempt]] = {}
        for field, value in attempts.items():
            # A target's name holds no space.
            made.setdefault(field.decode().partition(" ")[0], []).append(_attempt(value))
        views = []
        for name, (end, failed), due, leased in zip(
            names, places[::3], places[1::3], places[2::3], strict=True
        ):
            views.append(
                DeliveryView(
                    target=name,
                    state=end.decode() if end else IN_FLIGHT if leased is not None else WAITING,
                    failed=int(failed or 0),
                    due_at=_time(due) if not end else None,
                    leased_until=_time(leased) if not end else None,
                    attempts=[
                        _view(attempt, answers=answers)
                        for attempt in sorted(made.get(name, ()), key=lambda attempt: attempt.at_ms)
                    ],
                )
            )
        return views

    async def dead_counts(self, targets: Sequence[str]) -> dict[str, int]:
        """Return how many dead letters each target has. Raises: StoreUnavailable."""
        if not targets:
            return {}
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for target in targets:
                pipe.zcard(keys.dead(target))
            return dict(zip(targets, await pipe.execute(), strict=True))

    async def dead_letters(self, targets: Sequence[str], span: Span, limit: int) -> list[DeadLetter]:
        """Return up to `limit` dead letters of these targets, the latest to die first.

        Raises: StoreUnavailable.
        """
        target_of = {keys.dead(target): target for target in targets}
        letters: list[DeadLetter] = []
        page = max(10, PAGE // max(1, len(targets)))
        async for steps in walk(self._client, list(target_of), span, newest_first=True, page=page):
            for start in range(0, min(len(steps), limit - len(letters)), PAGE):
                part = steps[start : start + min(PAGE, limit - len(letters))]
                letters += await self._letters([(step, target_of[step.key]) for step in part])
            if len(letters) >= limit:
                break
        return letters

    async def _letters(self, found: Sequence[tuple[Step, str]]) -> list[DeadLetter]:
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for step, target in found:
                pipe.hmget(keys.event(step.id), ["attributes", f"failed:{target}"])
                pipe.hkeys(keys.attempts(step.id))
            replies = await pipe.execute()
            # Only the latest attempt is read: an event's attempts may come to megabytes.
            pipe = self._client.redis.pipeline(transaction=False)
            for (step, target), fields in zip(found, replies[1::2], strict=True):
                pipe.hget(keys.attempts(step.id), _latest(fields, target))
            latest = await pipe.execute()
        return [
            _letter(step, target, attributes, failed, attempt)
            for (step, target), (attributes, failed), attempt in zip(found, replies[::2], latest, strict=True)
            if attributes is not None
        ]


def _latest(fields: Sequence[bytes], target: str) -> str:
    """Return the field of a target's latest attempt: its claim's token is a time."""
    prefix = f"{target} "
    tokens = [
        int(text.removeprefix(prefix)) for field in fields if (text := field.decode()).startswith(prefix)
    ]
    return f"{prefix}{max(tokens, default=0)}"


def _letter(
    step: Step, target: str, attributes: bytes, failed: bytes | None, attempt: bytes | None
) -> DeadLetter:
    context = read_context(attributes)
    return DeadLetter(
        id=step.id,
        target=target,
        died_at=rfc3339_ms(step.ms),
        source=context.source_name,
        type=context.type,
        failed=int(failed or 0),
        last=_view(_attempt(attempt), answers=False) if attempt else None,
    )


def _attempt(value: bytes) -> Attempt:
    return msgspec.json.decode(value, type=Attempt)


def _view(attempt: Attempt, *, answers: bool) -> AttemptView:
    return AttemptView(
        at=rfc3339_ms(attempt.at_ms),
        n=attempt.n,
        duration_ms=attempt.duration_ms,
        status=attempt.status,
        error=attempt.error,
        answer=attempt.answer if answers else None,
    )


def _time(score: float | None) -> str | None:
    return None if score is None else rfc3339_ms(int(score))
