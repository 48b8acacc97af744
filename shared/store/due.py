"""The due sets: claims deliveries, settles them, and puts back claims of workers that died."""

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
    """A delivery that this process has claimed until its lease runs out. `token` proves that.

    `failed` is how many attempts failed before, since its admission or its last replay. `age_ms` is the time
    of these attempts and of the waits after them.
    """

    target: str
    event_id: str
    token: int
    failed: int
    age_ms: int = 0


class Claims(msgspec.Struct, frozen=True):
    """The result of a claim.

    `more` is how many are still due; `next_due_s` is in how many seconds to claim again (None: never).
    """

    now_ms: int
    entries: list[Claimed]
    more: int
    next_due_s: float | None


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One delivery attempt. `status` is None if no answer came, and `error` says why.

    `at_ms` is its start by Redis's clock; `answer` is the part of the answer's body that is kept, as text.
    `resent`: the request was sent twice, as a kept connection closed before an answer began.
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
    """A target's limits: `concurrency` deliveries in flight, fleet-wide; one each `interval_us` (0: no rate).

    `burst` is how many may go at once after a pause; `lease_ms` is how long a claim lasts.
    """

    lease_ms: int
    concurrency: int
    interval_us: int = 0
    burst: int = 1


class ClaimRequest(msgspec.Struct, frozen=True):
    """A request to claim at most `most` deliveries of a target."""

    target: str
    most: int
    limits: Limits


class BreakerPolicy(msgspec.Struct, frozen=True):
    """The rules for a target that fails.

    `failures` in a row open its breaker, for `first_ms`, doubling up to `longest_ms`. After failing for
    `disable_after_ms` it is disabled, for the reason `disable_reason`. `hold`: in an ordered target, a dead
    letter holds the rest of its transaction.
    """

    failures: int
    first_ms: int
    longest_ms: int
    disable_after_ms: int
    disable_reason: str = "failed for too long"
    hold: bool = False


class Settlement(msgspec.Struct, frozen=True):
    """What to record for a claim: its end, and the attempt that was made.

    For RETRY also the delay before the next attempt; for DEAD and GONE also the reason.
    """

    claimed: Claimed
    end: End
    delay_ms: int = 0
    attempt: Attempt | None = None
    reason: Reason | None = None

    @property
    def age_ms(self) -> int:
        """The age of the delivery when it is next due."""
        took_ms = self.attempt.duration_ms if self.attempt else 0
        return self.claimed.age_ms + int(took_ms) + self.delay_ms


class RoundTrip(msgspec.Struct):
    """The result of one round trip.

    `counted` says for each settlement whether it changed anything (False: its token was used up). `changes`
    names the targets that changed by them: `opened`, `closed` (the breaker) or `disabled`. `failure` is why
    all settlements were refused, if so. `claims` has for each request its claims, or an error.
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
        self,
        batch: Sequence[Settlement],
        policies: Mapping[str, BreakerPolicy],
        requests: Sequence[ClaimRequest],
    ) -> RoundTrip:
        """Record how claims ended, then claim what there is room for, in one round trip.

        For a target that is paused or disabled, or whose breaker is open, nothing is claimed.

        Raises: StoreUnavailable if the connection broke: nothing is known. Settlements can then be repeated,
        and the leases of claims run out.
        """
        calls = [_settle_call(batch, policies)] if batch else []
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
        """Make the claims of dead workers due again.

        Returns how many came back, and those whose leases ran out for the tenth time: these are claimed for
        the caller, who settles them as a failed attempt. Raises: StoreUnavailable.
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
    """Return the text that is kept as the target's last error."""
    if attempt is None:
        return ""
    return attempt.error or f"answered {attempt.status}"


def _settle_call(batch: Sequence[Settlement], policies: Mapping[str, BreakerPolicy]) -> NamedCall:
    names = dict.fromkeys(item.claimed.target for item in batch)
    args: list[str | bytes | int | float] = [len(names)]
    for name in names:
        rules = policies[name]
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
