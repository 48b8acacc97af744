"""Packs finished events, the oldest first, a few at a time. shared.store.events reads packed events, too."""

import asyncio
from collections.abc import Sequence
from typing import Any

from shared.event.packing import Packed, pack
from shared.event.record import JSON
from shared.store.client import RedisClient, translated
from shared.store.clock import now_ms
from shared.store.events import Whole, read_first

AFTER_MS = 60_000  # most reads, copies and replays of an event come before that
AT_ONCE = 50  # in one script, which takes Redis about a millisecond


class Packer:
    """Packs finished events."""

    def __init__(self, client: RedisClient, *, after_ms: int = AFTER_MS) -> None:
        """An event is packed once it is `after_ms` old."""
        self._client = client
        self._after_ms = after_ms

    async def pack(self) -> int:
        """Pack up to AT_ONCE events that have finished and are old enough.

        Returns how many there were; one that changed meanwhile is left for the next call.

        Raises: StoreUnavailable.
        """
        redis: Any = self._client.redis
        with translated():
            before = await now_ms(self._client) - self._after_ms
            found = await redis.zrangebyscore(
                self._client.keys.finished, "-inf", before, start=0, num=AT_ONCE
            )
        ids = [id.decode() for id in found]
        if not ids:
            return 0
        events = await read_first(self._client, ids)
        ids = ids[: len(events)]
        # In a thread, so that the loop can go on with deliveries.
        await self._client.run("pack", [], await asyncio.to_thread(_arguments, ids, events))
        return len(ids)


def _arguments(ids: Sequence[str], events: Sequence[Whole | None]) -> list[str | bytes | int | float]:
    args: list[str | bytes | int | float] = []
    for id, event in zip(ids, events, strict=True):
        if event is None or b"attributes" not in event.fields:
            args += [id, "", "", "", 0, 0]
            continue
        value = pack(
            id,
            Packed(
                event.fields[b"attributes"],
                event.fields[b"data"],
                event.fields[b"body"],
                event.fields.get(b"type", JSON.encode()).decode(),
                {field.decode(): attempt for field, attempt in event.attempts.items()},
            ),
        )
        latest = max((int(field.rpartition(b" ")[2]) for field in event.attempts), default=0)
        erased = event.fields.get(b"erased", b"")
        args += [id, event.packed or "", erased, value, latest, len(event.apart), *event.apart]
    return args
