"""The due sets: claiming deliveries, settling them, and putting back what was left behind."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from shared.events import JSON, EventRecord
from shared.store import keys
from shared.store.client import RedisClient

CLAIM_BYTES = 1024 * 1024
LEASE_BEYOND_TIMEOUT_MS = 10_000
RELEASE_AT_ONCE = 500
LAPSES_UNCHARGED = 10


class Claimed(msgspec.Struct, frozen=True):
    """A delivery that this process holds until its lease runs out. `token` proves it.

    `failed` is how many attempts failed before.
    """

    target: str
    event_id: str
    token: int
    failed: int


class Claims(msgspec.Struct, frozen=True):
    """What a claim got. `more` is how many are due still; `next_due_s` when the next is (None: never)."""

    now_ms: int
    entries: list[tuple[Claimed, EventRecord]]
    more: int
    next_due_s: float | None


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One delivery attempt. `status` is None where no answer came, and `error` says why.

    `at_ms` is the start by Redis's clock; `answer` the first 1 KiB of the answer's body as text.
    """

    n: int
    at_ms: int
    duration_ms: float
    status: int | None = None
    error: str = ""
    answer: str = ""


class End(StrEnum):
    """How a claim ends."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"
    BACK = "back"


class Settlement(msgspec.Struct, frozen=True):
    """What to write for a claim: its end, the delay before the next attempt (RETRY), the attempt made."""

    claimed: Claimed
    end: End
    delay_ms: int = 0
    attempt: Attempt | None = None


class DueSets:
    """The due sets of all targets."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def claim(self, target: str, *, most: int, concurrency: int, lease_ms: int) -> Claims:
        """Claim up to `most` deliveries that are due, within what the fleet may have in flight.

        Raises: StoreUnavailable.
        """
        now, token, more, next_due, found = await self._client.run(
            "claim",
            [keys.due(target), keys.leased(target)],
            [target, most, concurrency, lease_ms, CLAIM_BYTES],
        )
        entries = [
            (
                Claimed(target, event_id := id.decode(), token, failed),
                EventRecord(event_id, attributes, data, body, content_type.decode() or JSON),
            )
            for id, failed, attributes, data, body, content_type in found
        ]
        wait_s = max(0.0, float(next_due) - now) / 1000 if next_due else None
        return Claims(now_ms=now, entries=entries, more=more, next_due_s=wait_s)

    async def settle(self, batch: Sequence[Settlement]) -> list[bool]:
        """Write how claims ended; False for one whose token is spent. Raises: StoreUnavailable."""
        args: list[str | bytes | int] = []
        for item in batch:
            claimed = item.claimed
            args += [
                claimed.target,
                claimed.event_id,
                claimed.token,
                item.end,
                item.delay_ms if item.end is End.RETRY else "",
                msgspec.json.encode(item.attempt) if item.attempt else "",
            ]
        return [changed == 1 for changed in await self._client.run("settle", [], args)]

    async def release(self, target: str, *, lease_ms: int) -> tuple[int, list[Claimed]]:
        """Make due again what a dead worker had claimed.

        Returns how many came back, and those whose leases ran out for the tenth time: they are claimed
        for the caller, to settle as a failed attempt. Raises: StoreUnavailable.
        """
        back, spent = await self._client.run(
            "release",
            [keys.leased(target), keys.due(target)],
            [target, RELEASE_AT_ONCE, LAPSES_UNCHARGED, lease_ms],
        )
        return back, [Claimed(target, id.decode(), token, failed) for id, failed, token in spent]
