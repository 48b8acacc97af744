"""Where one event went: the state of each of its deliveries, every attempt, and the dead letters."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.archive.letter import ENDED
from shared.event.times import rfc3339_ms
from shared.store.client import RedisClient, translated
from shared.store.context import read_context
from shared.store.due import Attempt
from shared.store.events import PIECES, all_attempts, read_attempts, read_fields
from shared.store.walk import Span, Step, walk
from shared.store.why import Stands, Why, why_given_up, why_waiting

WAITING = "waiting"
IN_FLIGHT = "in-flight"
ENDS = ("done", "dead", "expired", "discarded", ENDED)
ON_DISK = "disk"
PAGE = 100


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt. `status` is None if no answer came: `error` says why. `answer` only if asked for.

    `resent`: it was sent twice, as a kept connection closed before an answer began.
    """

    at: str
    n: int
    duration_ms: float
    status: int | None
    error: str
    answer: str | None
    resent: bool = False


class DeliveryView(msgspec.Struct, frozen=True):
    """One event for one target.

    `state`: `waiting` (to be sent at `due_at`), `in-flight` (a worker holds it until `leased_until` at
    most), `done`, `dead`, `expired` (a dead letter past its retention), `discarded`, or `ended` (nobody knows
    how: its event had left Redis, and only another target's dead letter on disk tells of it). `failed` counts
    the attempts of the present schedule, which a replay starts anew; `attempts` holds those of all schedules,
    oldest first. `why` says what it waits for, or why it was given up; None if it is in flight or done.
    """

    target: str
    state: str
    failed: int
    due_at: str | None
    leased_until: str | None
    attempts: list[AttemptView]
    why: Why | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was given up at `died_at` after `failed` attempts; `last` is the latest of them.

    `on_disk`: it was moved there, and is no more in Redis.
    """

    id: str
    target: str
    died_at: str
    source: str
    type: str
    failed: int
    last: AttemptView | None
    why: Why
    on_disk: bool = False


class _Place(msgspec.Struct, frozen=True):
    """Where one of an event's deliveries stands. `ahead` is the first of its lane, if that is another."""

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
    """What the store holds of deliveries."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def of_event(
        self, event_id: str, *, answers: bool = False, concurrency: Mapping[str, int] | None = None
    ) -> list[DeliveryView] | None:
        """Return an event's deliveries, in the order of its targets; None if there is no such event.

        `concurrency` is that of each configured target. Raises: StoreUnavailable.
        """
        found = await self._places(event_id)
        if found is None:
            return None
        places, attempts = found
        made: dict[str, list[Attempt]] = {}
        for field, value in attempts.items():
            # A target's name holds no space.
            made.setdefault(field.decode().partition(" ")[0], []).append(read_attempt(value))
        for each in made.values():
            each.sort(key=lambda attempt: attempt.at_ms)
        waiting = await self._waiting(event_id, [place for place in places if place.waits], concurrency or {})
        views = []
        for place in places:
            name = place.target
            why = waiting.get(name)
            if place.end in ("dead", ON_DISK, "expired", "discarded"):
                last = made[name][-1] if name in made else None
                why = why_given_up(place.reason, place.failed, last)
            views.append(
                DeliveryView(
                    target=name,
                    state=state_of(place.end) or (IN_FLIGHT if place.leased_ms is not None else WAITING),
                    failed=place.failed,
                    due_at=_time(place.due_ms) if not place.end else None,
                    leased_until=_time(place.leased_ms) if not place.end else None,
                    attempts=[attempt_view(attempt, answers=answers) for attempt in made.get(name, ())],
                    why=why,
                )
            )
        return views

    async def _places(self, event_id: str) -> tuple[list[_Place], dict[bytes, bytes]] | None:
        """Return where each delivery of an event stands, and the attempts as they are kept."""
        event = self._keys.event(event_id)
        redis: Any = self._client.redis
        with translated():
            targets, ordered, transaction = await redis.hmget(event, ["targets", "ordered", "transaction"])
            if targets is None:
                return None
            names = [name for name in targets.decode().split(",") if name]
            lanes = (ordered or b"").decode().split(",")
            # One transaction: a delivery is in one of its places, never between two.
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
        return [_place(event_id, *row) for row in rows], all_attempts(event_id, apart, pieces)

    async def _waiting(
        self, event_id: str, places: Sequence[_Place], concurrency: Mapping[str, int]
    ) -> dict[str, Why]:
        """Return why each of these waits, by target."""
        if not places:
            return {}
        redis: Any = self._client.redis
        with translated():
            pipe = redis.pipeline(transaction=True)
            pipe.time()
            for place in places:
                pipe.hmget(self._keys.target(place.target), ["state", "reason", "open_until"])
                pipe.get(self._keys.rate(place.target))
                pipe.zcard(self._keys.leased(place.target))
                pipe.hmget(self._keys.event(place.ahead or ""), ["open", f"end:{place.target}"])
            (seconds, micros), *found = await pipe.execute()
        # `data` may be large: it is read only for what it says of the transaction.
        name = "data" if any(place.ahead for place in places) else ""
        [[data]] = await read_fields(self._client, [(event_id, [name])])
        transaction = msgspec.json.decode(data, type=_Transaction).transaction_id if data else None
        whys = {}
        for place, (state, reason, open_until), rate_at, in_flight, (open_, end) in zip(
            places, found[::4], found[1::4], found[2::4], found[3::4], strict=True
        ):
            stands = Stands(
                failed=place.failed,
                due_ms=place.due_ms,
                ahead=place.ahead,
                # Of a dead letter that was moved to disk, the event may be gone from here.
                ahead_is_dead=place.ahead is not None and (open_ is None or end is not None),
                transaction=transaction,
                state=(state or b"").decode(),
                reason=(reason or b"").decode("utf-8", "replace"),
                open_until_ms=int(float(open_until)) if open_until else None,
                rate_at_ms=-(-int(rate_at) // 1000) if rate_at else None,
                in_flight=in_flight,
                concurrency=concurrency.get(place.target),
            )
            whys[place.target] = why_waiting(stands, int(seconds) * 1000 + int(micros) // 1000)
        return whys

    async def dead_counts(self, targets: Sequence[str]) -> dict[str, int]:
        """Return how many dead letters each target has. Raises: StoreUnavailable."""
        if not targets:
            return {}
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for target in targets:
                pipe.zcard(self._keys.dead(target))
            return dict(zip(targets, await pipe.execute(), strict=True))

    async def dead_letters(self, targets: Sequence[str], span: Span, limit: int) -> list[DeadLetter]:
        """Return up to `limit` dead letters of these targets, the latest to die first.

        Raises: StoreUnavailable.
        """
        target_of = {self._keys.dead(target): target for target in targets}
        letters: list[DeadLetter] = []
        page = max(10, PAGE // max(1, len(targets)))
        async for steps in walk(self._client, list(target_of), span, newest_first=True, page=page):
            for start in range(0, min(len(steps), limit - len(letters)), PAGE):
                part = steps[start : start + min(PAGE, limit - len(letters))]
                letters += await self.views([(step, target_of[step.key]) for step in part])
            if len(letters) >= limit:
                break
        return letters

    async def views(self, found: Sequence[tuple[Step, str]]) -> list[DeadLetter]:
        """Return dead letters as they are shown, if their events are there. Raises: StoreUnavailable."""
        heads = await read_fields(
            self._client,
            [(step.id, ["attributes", f"failed:{target}", f"why:{target}"]) for step, target in found],
        )
        latest = await self._latest_attempts([(step.id, target) for step, target in found])
        return [
            _letter(step, target, attributes, int(failed or 0), reason, attempt)
            for (step, target), (attributes, failed, reason), attempt in zip(
                found, heads, latest, strict=True
            )
            if attributes is not None
        ]

    async def _latest_attempts(self, deliveries: Sequence[tuple[str, str]]) -> list[bytes | None]:
        """Return the latest attempt of each delivery: event, target."""
        redis: Any = self._client.redis
        with translated():
            pipe = redis.pipeline(transaction=False)
            for id, _ in deliveries:
                pipe.hkeys(self._keys.attempts(id))
            fields = [
                _latest(names, target)
                for names, (_, target) in zip(await pipe.execute(), deliveries, strict=True)
            ]
            # Only the latest attempt is read: an event's attempts may come to megabytes.
            pipe = redis.pipeline(transaction=False)
            for (id, _), field in zip(deliveries, fields, strict=True):
                pipe.hget(self._keys.attempts(id), field)
            latest: list[bytes | None] = await pipe.execute()
        # If it was given up untried since its replay, the latest may be packed.
        untried = [number for number, attempt in enumerate(latest) if attempt is None]
        packed = await read_attempts(self._client, [deliveries[number][0] for number in untried])
        for number, attempts in zip(untried, packed, strict=True):
            latest[number] = attempts.get(_latest(list(attempts), deliveries[number][1]).encode())
        return latest


def _latest(fields: Sequence[bytes], target: str) -> str:
    """Return the field of a target's latest attempt: its claim's token is a time."""
    prefix = f"{target} "
    tokens = [
        int(text.removeprefix(prefix)) for field in fields if (text := field.decode()).startswith(prefix)
    ]
    return f"{prefix}{max(tokens, default=0)}"


class _Transaction(msgspec.Struct, frozen=True):
    """The part of `data` that names the transaction."""

    transaction_id: str | None = None


def _place(
    event_id: str,
    target: str,
    fields: Sequence[bytes | None],
    due: float | None,
    leased: float | None,
    first: bytes | None,
) -> _Place:
    end, failed, reason = fields
    return _Place(
        target=target,
        end=end.decode() if end else "",
        failed=int(failed or 0),
        reason=reason,
        due_ms=None if due is None else int(due),
        leased_ms=None if leased is None else int(leased),
        ahead=first.decode() if first and first.decode() != event_id else None,
    )


def _letter(
    step: Step, target: str, attributes: bytes, failed: int, reason: bytes | None, attempt: bytes | None
) -> DeadLetter:
    context = read_context(attributes)
    last = read_attempt(attempt) if attempt else None
    return DeadLetter(
        id=step.id,
        target=target,
        died_at=rfc3339_ms(step.ms),
        source=context.source_name,
        type=context.type,
        failed=failed,
        last=attempt_view(last, answers=False) if last else None,
        why=why_given_up(reason, failed, last),
    )


def read_attempt(value: bytes) -> Attempt:
    """Return an attempt from its JSON."""
    return msgspec.json.decode(value, type=Attempt)


def state_of(end: str) -> str:
    """Return the state of a delivery that has ended: where a dead letter is kept makes no other of it."""
    return "dead" if end == ON_DISK else end


def attempt_view(attempt: Attempt, *, answers: bool) -> AttemptView:
    """Return an attempt as it is shown."""
    return AttemptView(
        at=rfc3339_ms(attempt.at_ms),
        n=attempt.n,
        duration_ms=attempt.duration_ms,
        status=attempt.status,
        error=attempt.error,
        answer=attempt.answer if answers else None,
        resent=attempt.resent,
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339_ms(ms)
