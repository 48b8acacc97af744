"""The dead letters in Redis: how many, and which. `shared.archive` holds those on disk."""

from collections.abc import Sequence
from typing import Any

from shared.event.times import rfc3339_ms
from shared.store.client import RedisClient, translated
from shared.store.context import read_context
from shared.store.events import read_attempts, read_fields
from shared.store.views import DeadLetter, attempt_view, read_attempt
from shared.store.walk import Member, Span, walk
from shared.store.why import why_given_up

PAGE = 100


class DeadLetterList:
    """What Redis holds of dead letters."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def counts(self, targets: Sequence[str]) -> dict[str, int]:
        """Return how many dead letters each target has. Raises: StoreUnavailable."""
        if not targets:
            return {}
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for target in targets:
                pipe.zcard(self._keys.dead(target))
            return dict(zip(targets, await pipe.execute(), strict=True))

    async def listing(self, targets: Sequence[str], span: Span, limit: int) -> list[DeadLetter]:
        """Return up to `limit` dead letters of these targets, the latest to die first.

        Raises: StoreUnavailable.
        """
        target_of = {self._keys.dead(target): target for target in targets}
        letters: list[DeadLetter] = []
        page = max(10, PAGE // max(1, len(targets)))
        async for members in walk(self._client, list(target_of), span, newest_first=True, page=page):
            for start in range(0, min(len(members), limit - len(letters)), PAGE):
                part = members[start : start + min(PAGE, limit - len(letters))]
                letters += await self.views([(member, target_of[member.key]) for member in part])
            if len(letters) >= limit:
                break
        return letters

    async def views(self, found: Sequence[tuple[Member, str]]) -> list[DeadLetter]:
        """Return these dead letters as they are shown, without those whose events are gone.

        Raises: StoreUnavailable.
        """
        heads = await read_fields(
            self._client,
            [(member.id, ["attributes", f"failed:{target}", f"why:{target}"]) for member, target in found],
        )
        latest = await self._latest_attempts([(member.id, target) for member, target in found])
        return [
            _letter(member, target, attributes, int(failed or 0), reason, attempt)
            for (member, target), (attributes, failed, reason), attempt in zip(
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
        # If it was given up without an attempt since its replay, the latest one may be packed.
        untried = [number for number, attempt in enumerate(latest) if attempt is None]
        packed = await read_attempts(self._client, [deliveries[number][0] for number in untried])
        for number, attempts in zip(untried, packed, strict=True):
            latest[number] = attempts.get(_latest(list(attempts), deliveries[number][1]).encode())
        return latest


def _latest(fields: Sequence[bytes], target: str) -> str:
    """Return the field of a target's latest attempt, which ends with the claim's token, a time."""
    prefix = f"{target} "
    tokens = [
        int(text.removeprefix(prefix)) for field in fields if (text := field.decode()).startswith(prefix)
    ]
    return f"{prefix}{max(tokens, default=0)}"


def _letter(
    member: Member, target: str, attributes: bytes, failed: int, reason: bytes | None, attempt: bytes | None
) -> DeadLetter:
    context = read_context(attributes)
    last = read_attempt(attempt) if attempt else None
    return DeadLetter(
        id=member.id,
        target=target,
        died_at=rfc3339_ms(member.ms),
        source=context.source_name,
        type=context.type,
        failed=failed,
        last=attempt_view(last, answers=False) if last else None,
        why=why_given_up(reason, failed, last),
    )
