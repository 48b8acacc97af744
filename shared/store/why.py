"""Why a delivery is not done: a word of a fixed set, and its facts. This only computes; it reads no store.

The words of what waits: `due`, `paused`, `disabled`, `breaker`, `rate`, `concurrency`, `held`. Those of a
dead letter are `shared.delivery.verdicts.GivenUp`.
"""

import msgspec

from shared.delivery.verdicts import GONE, REMOVED, GivenUp, Reason
from shared.event.times import rfc3339_ms
from shared.store.due import Attempt


class Why(msgspec.Struct, frozen=True):
    """Why a delivery waits, or was given up: a word, a sentence, and the facts that belong to the word.

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


class WaitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a waiting delivery and its target. Times are milliseconds since 1970 by Redis's clock.

    `due_ms` is None if the delivery waits behind another one of its transaction, `ahead`. `rate_at_ms` is
    when the target's rate lets the next delivery go; `concurrency` is None if it is not known.
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


def why_waiting(facts: WaitFacts, now_ms: int) -> Why:
    """Return why a delivery waits; if there are several reasons, the one that lasts longest."""
    if facts.state:
        reason = f": {facts.reason}" if facts.reason else ""
        return Why(facts.state, f"the target is {facts.state}{reason}")
    if facts.due_ms is None:
        return _held(facts)
    if facts.open_until_ms is not None:
        if facts.open_until_ms > max(now_ms, facts.due_ms):
            until = rfc3339_ms(facts.open_until_ms)
            return Why("breaker", f"the target's breaker is open until {until}", at=until)
        if facts.due_ms <= now_ms and facts.in_flight:
            return Why(
                "breaker", "the target's breaker is open: one delivery at a time tries whether it works"
            )
    attempt, at = facts.failed + 1, rfc3339_ms(facts.due_ms)
    if facts.due_ms > now_ms:
        return Why("due", f"attempt {attempt} is due at {at}", attempt, at)
    if facts.rate_at_ms is not None and facts.rate_at_ms > now_ms:
        at = rfc3339_ms(facts.rate_at_ms)
        return Why("rate", f"the target's rate lets the next delivery go at {at}", at=at)
    if facts.concurrency is not None and facts.in_flight >= facts.concurrency:
        return Why("concurrency", f"as many are in flight as the target's concurrency: {facts.concurrency}")
    return Why("due", f"attempt {attempt} is due now", attempt, at)


def _held(facts: WaitFacts) -> Why:
    dead = ", a dead letter" if facts.ahead_is_dead else ""
    of = f" of transaction {facts.transaction}" if facts.transaction else ""
    text = f"behind {facts.ahead}{dead}{of}" if facts.ahead else f"behind an earlier event{of}"
    return Why(
        "held",
        text,
        behind=facts.ahead,
        behind_state="dead" if facts.ahead_is_dead else "waiting",
        transaction=facts.transaction,
    )


def why_given_up(kept: bytes | None, failed: int, last: Attempt | None) -> Why:
    """Return why a delivery became a dead letter: the reason `kept` with it, else one inferred from its last
    attempt.

    Earlier versions of Headrace kept no reason; if nothing was sent, they recorded an attempt of number 0.
    """
    if kept:
        word, _, text = kept.decode("utf-8", "replace").partition(" ")
        return Why(word, text)
    reason = _inferred(failed, last)
    return Why(reason.word.value, reason.text)


def _inferred(failed: int, last: Attempt | None) -> Reason:
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
