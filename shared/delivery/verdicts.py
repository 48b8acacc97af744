"""What an attempt's answer means for its delivery: it is done, tried again (and when), or given up."""

from collections.abc import Collection
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, StrEnum

import msgspec

from shared.delivery.backoff import Backoff
from shared.values import duration_text

GONE = 410
ASKS_TO_WAIT = (429, 503)


class Outcome(Enum):
    """What becomes of a delivery after an attempt."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"
    GONE = "gone"


class GivenUp(StrEnum):
    """The rule by which a delivery became a dead letter."""

    ATTEMPTS = "attempts"
    AGE = "age"
    GONE = "gone"
    GIVEN_UP = "given-up"
    REMOVED = "removed"
    DISABLED = "disabled"
    DISCARDED = "discarded"
    SHARE = "share"


class Reason(msgspec.Struct, frozen=True):
    """Why a delivery became a dead letter: the rule as one word, and a sentence that names its figure."""

    word: GivenUp
    text: str

    def __str__(self) -> str:
        """Return it as the store keeps it."""
        return f"{self.word} {self.text}"


REMOVED = Reason(GivenUp.REMOVED, "removed: the target left the configuration")


class Verdict(msgspec.Struct, frozen=True):
    """The outcome; for RETRY the seconds to wait, for DEAD and GONE the reason."""

    outcome: Outcome
    delay_s: float = 0.0
    reason: Reason | None = None


def succeeded(status: int | None) -> bool:
    """Tell whether an answer's status means success: only 2xx does."""
    return status is not None and 200 <= status < 300


class Policy:
    """A target's rules: its retry schedule, the statuses that it gives up on, and the greatest age of a
    delivery.
    """

    def __init__(
        self, backoff: Backoff, *, longest_s: float, give_up_on: Collection[int], max_age_s: float | None
    ) -> None:
        """`longest_s` bounds the wait that a `Retry-After` may ask for.

        `max_age_s` is None if only attempts count.
        """
        self.backoff = backoff
        self._longest_s = longest_s
        self._give_up_on = frozenset(give_up_on)
        self._max_age_s = max_age_s

    def judge(
        self, *, attempt: int, status: int | None, retry_after: bytes | None, now_s: float, age_s: float
    ) -> Verdict:
        """Judge an attempt (the first is 1) of a delivery that is `age_s` old.

        A delivery ages by its own attempts and the waits between them. Time in which its target is paused, or
        in which the target's breaker, rate, concurrency or order holds the delivery, does not count.

        `status` is None if no answer came. The `Retry-After` of a 429 or 503 can make the wait longer than
        the schedule's, up to its longest; it never makes it shorter.
        """
        if succeeded(status):
            return Verdict(Outcome.DONE)
        if status == GONE:
            return Verdict(Outcome.GONE, reason=Reason(GivenUp.GONE, "gave up: answered 410 Gone"))
        if status in self._give_up_on:
            return _dead(GivenUp.GIVEN_UP, f"gave up: status {status} is in give_up_on")
        delay_s = self.backoff.delay_s(attempt)
        if delay_s is None:
            attempts = "1 attempt" if attempt == 1 else f"{attempt} attempts"
            return _dead(GivenUp.ATTEMPTS, f"gave up after {attempts}")
        if status in ASKS_TO_WAIT and retry_after is not None:
            asked_s = asked_wait_s(retry_after, now_s)
            delay_s = max(delay_s, min(asked_s or 0.0, self._longest_s))
        if self._max_age_s is not None and age_s + delay_s > self._max_age_s:
            return _dead(GivenUp.AGE, f"gave up: older than max_age {duration_text(self._max_age_s)}")
        return Verdict(Outcome.RETRY, delay_s)


def _dead(word: GivenUp, text: str) -> Verdict:
    return Verdict(Outcome.DEAD, reason=Reason(word, text))


def asked_wait_s(value: bytes, now_s: float) -> float | None:
    """Return the seconds that a `Retry-After` asks for; None if it is neither of its two forms.

    Source: RFC 9110, 10.2.3: delay-seconds, or an HTTP date.
    """
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])  # a number of more digits is past every bound
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return max(0.0, moment.timestamp() - now_s)
    except (ValueError, OverflowError):
        return None
