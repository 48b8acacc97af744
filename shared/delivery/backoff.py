"""Attempt → next delay, by a target's retry table."""

import random

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential

from shared.settings import Retry


class jittered(wait_base):
    """A wait that is spread at random, by a share of itself both ways: deliveries that failed together do not
    return together.

    Above `maximum` the spread is folded back: no wait is longer, and waits do not pile up at exactly that.
    """

    def __init__(self, wait: wait_base, *, jitter: float, maximum: float) -> None:
        self.wait = wait
        self.jitter = jitter
        self.maximum = maximum

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the delay in seconds."""
        delay = self.wait(retry_state) * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311
        return delay if delay <= self.maximum else 2 * self.maximum - delay


class Backoff:
    """The schedule of one target."""

    def __init__(self, retry: Retry) -> None:
        self.attempts = retry.attempts
        self._jitter, self._maximum = retry.jitter, retry.max
        exponential = wait_exponential(multiplier=retry.initial, exp_base=retry.factor, max=retry.max)
        self._exponential = exponential
        self._wait = jittered(exponential, jitter=retry.jitter, maximum=retry.max)

    def horizon_s(self) -> float:
        """Return the longest time from the first attempt to the last."""
        delays = (self._exact(attempt) for attempt in range(1, min(self.attempts, 1000)))
        return sum(min(delay * (1 + self._jitter), self._maximum) for delay in delays)

    def delay_s(self, attempt: int) -> float | None:
        """Return the seconds to wait after the failed `attempt` (the first is 1); None if it was the last."""
        if attempt >= self.attempts:
            return None
        return self._wait(_after(attempt))

    def _exact(self, attempt: int) -> float:
        return self._exponential(_after(attempt))


def _after(attempt: int) -> RetryCallState:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    return state
