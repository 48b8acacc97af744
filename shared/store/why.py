"""Why a delivery is not done: one word of a fixed set, with its facts. Computes only; others read the store.

The words of what waits: `due`, `paused`, `disabled`, `breaker`, `rate`, `concurrency`, `held`. Those of a
dead letter are `shared.delivery.verdicts.GivenUp`.
"""

import msgspec

from shared.delivery.verdicts import GONE, REMOVED, GivenUp, Reason
from shared.event.times import rfc3339_ms
from shared.store.due import Attempt


class Why(msgspec.Struct, frozen=True):
    """Why a delivery waits, or was given up: a word, the sentence, and the facts that the word has.

    `attempt` is the number of the next attempt. `at` is when that is due (`due`), until when the target gets
    nothing (`breaker`), or when its rate lets the next one go (`rate`). `behind` is the event that goes first
    (`held`), of the same `transaction`; `behind_state` is `dead` if that is a dead letter, else `waiting`.
    """

    word: str
    text: str
    attempt: int | None = None
    at: str | None = None
    behind: str | None = None
    behind_state: str | None = None
    transaction: str | None = None


class Stands(msgspec.Struct, frozen=True, kw_only=True):
    """How a waiting delivery and its target stand. Times are milliseconds since 1970 by Redis's clock.

    `due_ms` is None if the delivery stands behind another of its transaction, `ahead`. `rate_at_ms` is when
    the target's rate lets the next delivery go; `concurrency` is None if nobody knows it here.
    """

    failed: int = 0
    due_ms: int | None = None
    ahead: str | None = None
    ahead_is_dead: bool = False
    transaction: str | None = None
    state: str = ""
    reason: str = ""
    open_until_ms: int | None = None
    rate_at_ms: int | None = None
    in_flight: int = 0
    concurrency: int | None = None


def why_waiting(stands: Stands, now_ms: int) -> Why:
    """Return why a delivery waits. Of several reasons, the one that lasts longest."""
    if stands.state:
        reason = f": {stands.reason}" if stands.reason else ""
        return Why(stands.state, f"the target is {stands.state}{reason}")
    if stands.due_ms is None:
        return _held(stands)
    if stands.open_until_ms is not None:
        if stands.open_until_ms > max(now_ms, stands.due_ms):
            until = rfc3339_ms(stands.open_until_ms)
            return Why("breaker", f"the target's breaker is open until {until}", at=until)
        if stands.due_ms <= now_ms and stands.in_flight:
            return Why(
                "breaker", "the target's breaker is open: one delivery at a time tries whether it works"
            )
    attempt, at = stands.failed + 1, rfc3339_ms(stands.due_ms)
    if stands.due_ms > now_ms:
        return Why("due", f"attempt {attempt} is due at {at}", attempt, at)
    if stands.rate_at_ms is not None and stands.rate_at_ms > now_ms:
        at = rfc3339_ms(stands.rate_at_ms)
        return Why("rate", f"the target's rate lets the next delivery go at {at}", at=at)
    if stands.concurrency is not None and stands.in_flight >= stands.concurrency:
        return Why("concurrency", f"as many are in flight as the target's concurrency: {stands.concurrency}")
    return Why("due", f"attempt {attempt} is due now", attempt, at)


def _held(stands: Stands) -> Why:
    dead = ", a dead letter" if stands.ahead_is_dead else ""
    of = f" of transaction {stands.transaction}" if stands.transaction else ""
    text = f"behind {stands.ahead}{dead}{of}" if stands.ahead else f"behind an earlier event{of}"
    return Why(
        "held",
        text,
        behind=stands.ahead,
        behind_state="dead" if stands.ahead_is_dead else "waiting",
        transaction=stands.transaction,
    )


def why_given_up(kept: bytes | None, failed: int, last: Attempt | None) -> Why:
    """Return why a delivery became a dead letter: `kept` with it, or told from its last attempt.

    Earlier versions of Headrace kept no reason; if nothing was sent, they recorded an attempt of number 0.
    """
    if kept:
        word, _, text = kept.decode("utf-8", "replace").partition(" ")
        return Why(word, text)
    reason = _told_from(failed, last)
    return Why(reason.word.value, reason.text)


def _told_from(failed: int, last: Attempt | None) -> Reason:
    if last is not None and last.n == 0:
        return _UNSENT.get(last.error.rpartition(" ")[2], REMOVED)
    if last is not None and last.status == GONE:
        return Reason(GivenUp.GONE, "gave up: answered 410 Gone")
    return Reason(GivenUp.ATTEMPTS, f"gave up after {failed} attempt{'' if failed == 1 else 's'}")


_UNSENT = {
    "disabled": Reason(GivenUp.DISABLED, "disabled"),
    "paused": Reason(GivenUp.AGE, "paused for more than 7d"),
    "open": Reason(GivenUp.AGE, "gave up: older than max_age while its breaker was open"),
}
