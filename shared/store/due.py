"""The due sets: claiming deliveries, settling them, and putting back what was left behind."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from shared.delivery.verdicts import Reason
from shared.errors import StoreUnavailable
from shared.event.record import EventRecord
from shared.store.client import NamedCall, RedisClient
from shared.store.events import read_records
from shared.store.keys import Keys

READ_AT_ONCE = 16
LEASE_BEYOND_TIMEOUT_MS = 10_000
RELEASE_AT_ONCE = 500
LAPSES_UNCHARGED = 10

_encode = msgspec.json.Encoder().encode


class Claimed(msgspec.Struct, frozen=True):
    """A delivery that this process holds until its lease runs out. `token` proves it.

    `failed` is how many attempts failed before, since its admission or its last replay. `age_ms` is how long
    these took, with the waits after them.
    """

    target: str
    event_id: str
    token: int
    failed: int
    age_ms: int = 0


class Claims(msgspec.Struct, frozen=True):
    """What a claim got. `more` is how many are due still; `next_due_s` when to look again (None: never)."""

    now_ms: int
    entries: list[Claimed]
    more: int
    next_due_s: float | None


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One delivery attempt. `status` is None if no answer came, and `error` says why.

    `at_ms` is the start by Redis's clock; `answer` the answer's body as text, as far as it is kept. `resent`:
    the request was sent twice, as a kept connection closed before an answer began.
    """

    n: int
    at_ms: int
    duration_ms: float
    status: int | None = None
    error: str = ""
    answer: str = ""
    resent: bool = False


class End(StrEnum):
    """How a claim ends."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"
    GONE = "gone"
    BACK = "back"


class Limits(msgspec.Struct, frozen=True):
    """What a target may have: how many in flight, fleet-wide; one delivery each `interval_us` (0: no rate).

    `burst` is how many may go at once after a pause; `lease_ms` how long one claim holds.
    """

    lease_ms: int
    concurrency: int
    interval_us: int = 0
    burst: int = 1


class ClaimRequest(msgspec.Struct, frozen=True):
    """What a process wants to claim of a target: at most `most` deliveries."""

    target: str
    most: int
    limits: Limits


class Patience(msgspec.Struct, frozen=True):
    """When a target's breaker opens (failures in a row), for how long at first and at most, and when it is
    disabled for good (after failing for so long), and the reason that is then given. `hold`: in an ordered
    target, a dead letter holds the rest of its transaction.
    """

    failures: int
    first_ms: int
    longest_ms: int
    disable_after_ms: int
    disable_reason: str = "failed for too long"
    hold: bool = False


class Settlement(msgspec.Struct, frozen=True):
    """What to write for a claim: its end, the attempt made.

    For RETRY also the delay before the next attempt; for DEAD and GONE also why it was given up.
    """

    claimed: Claimed
    end: End
    delay_ms: int = 0
    attempt: Attempt | None = None
    reason: Reason | None = None

    @property
    def age_ms(self) -> int:
        """How old the delivery is when it is next due."""
        took_ms = self.attempt.duration_ms if self.attempt else 0
        return self.claimed.age_ms + int(took_ms) + self.delay_ms


class RoundTrip(msgspec.Struct):
    """What one round trip brought.

    `counted` says for each settlement whether it changed anything (False: its token was spent). `changes`
    names the targets that changed by them: `opened`, `closed` (the breaker) or `disabled`. `failure`: why
    all the settlements were refused. `claims`: for each request its claims, or why there are none.
    """

    counted: list[bool] = []
    changes: dict[str, str] = {}
    failure: StoreUnavailable | None = None
    claims: list[Claims | Exception] = []


class DueSets:
    """The due sets of all targets."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys

    async def settle_and_claim(
        self, batch: Sequence[Settlement], patience: Mapping[str, Patience], requests: Sequence[ClaimRequest]
    ) -> RoundTrip:
        """Write how claims ended, then claim what there is room for, all in one round trip.

        A target that is paused or disabled, or whose breaker is open, gets none.

        Raises: StoreUnavailable if the connection broke: nothing is known. Settlements can be said again,
        and what was claimed then comes back with its lease.
        """
        calls = [_settle_call(batch, patience)] if batch else []
        calls += [_claim_call(self._keys, request) for request in requests]
        replies = await self._client.run_each(calls)
        brought = RoundTrip()
        if batch:
            reply = replies.pop(0)
            if isinstance(reply, StoreUnavailable):
                brought.failure = reply
            else:
                settled, changes = reply
                brought.counted = [changed == 1 for changed in settled]
                names = dict.fromkeys(item.claimed.target for item in batch)
                brought.changes = {
                    name: change.decode() for name, change in zip(names, changes, strict=True) if change
                }
        brought.claims = [
            reply if isinstance(reply, Exception) else _claims(request.target, reply)
            for request, reply in zip(requests, replies, strict=True)
        ]
        return brought

    async def read(self, ids: Sequence[str]) -> list[EventRecord | None]:
        """Return events as they are delivered, None for one that is gone. Raises: StoreUnavailable.

        A few at a time: their bodies may be large.
        """
        found: list[EventRecord | None] = []
        for start in range(0, len(ids), READ_AT_ONCE):
            found += await read_records(self._client, ids[start : start + READ_AT_ONCE])
        return found

    async def release(self, target: str, *, lease_ms: int) -> tuple[int, list[Claimed]]:
        """Make due again what a dead worker had claimed.

        Returns how many came back, and those whose leases ran out for the tenth time: they are claimed
        for the caller, to settle as a failed attempt. Raises: StoreUnavailable.
        """
        back, spent = await self._client.run(
            "release",
            [self._keys.leased(target), self._keys.due(target)],
            [target, RELEASE_AT_ONCE, LAPSES_UNCHARGED, lease_ms],
        )
        return back, [
            Claimed(target, id.decode(), token, failed, age_ms) for id, failed, age_ms, token in spent
        ]


def _wrong(attempt: Attempt | None) -> str:
    """Return what is remembered as the target's last error."""
    if attempt is None:
        return ""
    return attempt.error or f"answered {attempt.status}"


def _settle_call(batch: Sequence[Settlement], patience: Mapping[str, Patience]) -> NamedCall:
    names = dict.fromkeys(item.claimed.target for item in batch)
    args: list[str | bytes | int | float] = [len(names)]
    for name in names:
        rules = patience[name]
        args += [name, rules.failures, rules.first_ms, rules.longest_ms, rules.disable_after_ms]
        args += [rules.disable_reason, "hold" if rules.hold else ""]
    for item in batch:
        claimed = item.claimed
        args += [
            claimed.target,
            claimed.event_id,
            claimed.token,
            item.end,
            item.delay_ms if item.end is End.RETRY else "",
            _encode(item.attempt) if item.attempt else "",
            "" if item.end is End.DONE else _wrong(item.attempt),
            item.age_ms if item.end is End.RETRY else str(item.reason or ""),
        ]
    return "settle", [], args


def _claim_call(keys: Keys, request: ClaimRequest) -> NamedCall:
    target, limits = request.target, request.limits
    return (
        "claim",
        [keys.due(target), keys.leased(target), keys.target(target), keys.rate(target)],
        [
            *(target, request.most, limits.concurrency, limits.lease_ms),
            *(limits.interval_us or "", limits.burst),
        ],
    )


def _claims(target: str, reply: Any) -> Claims:
    now, token, more, next_due, found = reply
    ids = map(bytes.decode, found[::3])
    entries = [
        Claimed(target, id, token, int(failed or 0), int(age_ms or 0))
        for id, failed, age_ms in zip(ids, found[1::3], found[2::3], strict=True)
    ]
    wait_s = max(0.0, float(next_due) - now) / 1000 if next_due else None
    return Claims(now_ms=now, entries=entries, more=more, next_due_s=wait_s)
