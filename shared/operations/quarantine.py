"""Discards requests in quarantine, and moves those in the inbox of a source that is not configured there."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from shared.store.admission import AdmissionOptions, Entry, Place, Quarantine, admit
from shared.store.audit import named, note
from shared.store.client import RedisClient, translated
from shared.store.context import of_source
from shared.store.walk import Span, walk

AT_ONCE = 200
TAKE_AT_ONCE = 50  # with their bodies
NO_SOURCE = "no-source"


class Chosen(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which requests to discard: `receipts` by id, or what came in during `span`, narrowed by the rest.

    `code` is the reason for which they were quarantined.
    """

    span: Span
    receipts: tuple[str, ...] = ()
    source: str | None = None
    code: str | None = None


class QuarantineWork:
    """Changes what is in quarantine. All methods raise StoreUnavailable."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def count(self, chosen: Chosen) -> dict[str, int]:
        """Return how many requests are chosen, by the reason why they are there."""
        counts: Counter[str] = Counter()
        async for page in self._chosen(chosen):
            counts.update(page.values())
        return dict(counts)

    async def discard(
        self, chosen: Chosen, planned: dict[str, int], *, user: str, done: Callable[[int], None]
    ) -> int:
        """Discard what is chosen, and call `done` with how many so far. Returns how many.

        If an error breaks it off, a second call goes on with the rest.
        """
        asked: dict[str, Any] = msgspec.to_builtins(chosen)
        if chosen.receipts:
            asked |= named(chosen.receipts, "receipts")
        # The audit entry comes first: nothing is discarded by hand without one.
        await note(self._client, "discard quarantined", user, asked, requests=planned)
        total = 0
        async for page in self._chosen(chosen):
            total += sum(await self._client.run("discard_quarantined", [], [chosen.code or "", *page]))
            done(total)
        return total

    async def _chosen(self, chosen: Chosen) -> AsyncIterator[dict[str, str]]:
        """Yield what is chosen, oldest first: receipt id → the reason why it is in quarantine."""
        if chosen.receipts:
            receipts = sorted(set(chosen.receipts))
            for start in range(0, len(receipts), AT_ONCE):
                yield await self._with_reason(receipts[start : start + AT_ONCE], chosen.code)
            return
        async for members in walk(self._client, [self._keys.quarantine], chosen.span, newest_first=False):
            ids = [member.id for member in members if of_source(member.id, chosen.source)]
            for start in range(0, len(ids), AT_ONCE):
                yield await self._with_reason(ids[start : start + AT_ONCE], chosen.code)

    async def _with_reason(self, ids: list[str], code: str | None) -> dict[str, str]:
        with translated():
            pipe = self._client.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hget(self._keys.quarantined(id), "code")
            codes = await pipe.execute() if ids else []
        return {
            id: found.decode()
            for id, found in zip(ids, codes, strict=True)
            if found is not None and code in (None, found.decode())
        }

    async def take_from_inbox(
        self, source: str, planned: int, options: AdmissionOptions, *, user: str, done: Callable[[int], None]
    ) -> int:
        """Move all requests from the inbox of a source that is not configured into quarantine, oldest first.

        The script that admits moves each of them, so it is in exactly one place at every moment. Returns how
        many were moved, copies of events that are held among them.
        """
        await note(self._client, "quarantine inbox", user, {"source": source}, requests={source: planned})
        total = 0
        redis: Any = self._client.redis
        while total < planned:
            with translated():
                found = await redis.xrange(self._keys.inbox(source), count=TAKE_AT_ONCE)
            batch = [_quarantine(source, id.decode(), fields) for id, fields in found]
            if not batch:
                break
            outcomes = await admit(self._client, Place.INBOX, source, batch, options)
            total += sum(outcome.what != "gone" for outcome in outcomes)
            done(total)
        return total


def _quarantine(source: str, id: str, fields: dict[bytes, bytes]) -> Quarantine:
    headers = fields.get(b"headers")
    return Quarantine(
        Entry(
            stream_id=id,
            source=source,
            body=fields[b"body"],
            headers=msgspec.json.decode(headers, type=dict[str, str]) if headers else {},
        ),
        NO_SOURCE,
        "its source is not in the configuration: put here by hand",
    )
