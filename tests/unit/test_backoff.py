"""The retry schedule: exponential, jittered, capped, and at an end."""

import pytest

from shared.delivery.backoff import Backoff
from shared.settings import Retry
from shared.values import Duration


def retry(**changes: object) -> Retry:
    values: dict[str, object] = {"initial": Duration(5), "factor": 4.0, "max": Duration(1000), "attempts": 6}
    return Retry(**{**values, "jitter": 0.0, **changes})  # type: ignore[arg-type]


def test_waits_grow_by_the_factor_up_to_the_maximum_and_end_with_the_attempts() -> None:
    backoff = Backoff(retry())
    assert [backoff.delay_s(attempt) for attempt in range(1, 7)] == [5, 20, 80, 320, 1000, None]
    assert backoff.delay_s(99) is None


@pytest.mark.parametrize("attempt", range(1, 6))
def test_jitter_spreads_both_ways_and_never_passes_the_maximum(attempt: int) -> None:
    exact = Backoff(retry()).delay_s(attempt)
    spread = [Backoff(retry(jitter=0.2)).delay_s(attempt) for _ in range(200)]
    assert exact is not None
    assert all(delay is not None and exact * 0.8 <= delay <= min(exact * 1.2, 1000) for delay in spread)
    assert len(set(spread)) > 100


def test_the_default_schedule_goes_on_for_days() -> None:
    backoff = Backoff(Retry(jitter=0.0))
    delays = [backoff.delay_s(attempt) for attempt in range(1, 14)]
    assert delays[:3] == [5, 20, 80]
    assert delays[-1] == 12 * 3600
    assert backoff.delay_s(14) is None
