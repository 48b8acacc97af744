"""What an answer means: success, the schedule, Retry-After within bounds, and giving up."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.backoff import Backoff
from shared.delivery.verdicts import Outcome, Policy, Verdict, asked_wait_s
from shared.settings import Retry
from shared.values import Duration

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
RETRY = Retry(initial=Duration(5), factor=4.0, max=Duration(3600), attempts=5, jitter=0.0)


def reason(status: int | None, **given: Any) -> str:
    return str(verdict(status, **given).reason)


def judge(status: int | None, **given: Any) -> tuple[str, float]:
    found = verdict(status, **given)
    return found.outcome.value, found.delay_s


def verdict(
    status: int | None,
    *,
    attempt: int = 1,
    retry_after: bytes | None = None,
    give_up_on: tuple[int, ...] = (),
    max_age_s: float | None = None,
    age_s: float = 0,
) -> Verdict:
    policy = Policy(Backoff(RETRY), longest_s=RETRY.max, give_up_on=give_up_on, max_age_s=max_age_s)
    return policy.judge(attempt=attempt, status=status, retry_after=retry_after, now_s=NOW, age_s=age_s)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_success(status: int) -> None:
    assert judge(status) == ("done", 0)
    assert judge(status, attempt=99, age_s=1e9, max_age_s=1) == ("done", 0)


@pytest.mark.parametrize("status", [None, 100, 199, 300, 301, 302, 307, 400, 401, 404, 429, 500, 503, 599])
def test_all_else_follows_the_schedule_until_the_attempts_are_used_up(status: int | None) -> None:
    assert [judge(status, attempt=n) for n in range(1, 6)] == [
        *(("retry", 5), ("retry", 20), ("retry", 80), ("retry", 320), ("dead", 0)),
    ]


def test_410_is_gone_at_once() -> None:
    assert judge(410) == ("gone", 0)


def test_give_up_on_goes_straight_to_the_dead_letters() -> None:
    assert judge(400, give_up_on=(400, 422)) == ("dead", 0)
    assert judge(500, give_up_on=(400, 422)) == ("retry", 5)


@pytest.mark.case(n=24)
@pytest.mark.parametrize(
    ("header", "delay_s"),
    [
        (b"60", 60),
        (b" 60 ", 60),
        (b"0", 5),  # never sooner than the schedule
        (b"1000000000", 3600),  # never later than its longest
        (b"9" * 400, 3600),
        (b"Thu, 01 Jan 2026 00:01:00 GMT", 60),
        (b"Thursday, 01-Jan-26 00:01:00 GMT", 60),
        (b"Thu Jan  1 00:01:00 2026", 60),
        (b"Wed, 31 Dec 2025 00:00:00 GMT", 5),  # past
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        *((junk, 5) for junk in (b"-1", b"1.5", b"soon", b"", b"\xff\xfe", b"+5", "٣".encode(), b"1e9")),
    ],
)
def test_retry_after_is_honoured_within_the_schedule_s_bounds(header: bytes, delay_s: float) -> None:
    assert judge(429, retry_after=header) == ("retry", delay_s)
    assert judge(503, retry_after=header) == ("retry", delay_s)
    assert judge(500, retry_after=header) == ("retry", 5), "only 429 and 503 ask to wait"


def test_retry_after_does_not_add_attempts() -> None:
    assert judge(429, attempt=5, retry_after=b"1") == ("dead", 0)


def test_a_delivery_that_would_be_too_old_at_its_next_attempt_is_given_up() -> None:
    assert judge(500, age_s=94, max_age_s=100) == ("retry", 5)
    assert judge(500, age_s=96, max_age_s=100) == ("dead", 0)
    assert judge(429, retry_after=b"60", age_s=50, max_age_s=100) == ("dead", 0)


@pytest.mark.case(n=53)
def test_the_reason_names_the_rule_and_its_figure() -> None:
    assert reason(500, attempt=5) == "attempts gave up after 5 attempts"
    assert reason(422, give_up_on=(422,)) == "given-up gave up: status 422 is in give_up_on"
    assert reason(422, give_up_on=(422,), attempt=5).startswith("given-up "), "whichever attempt it was"
    assert reason(500, age_s=259_199, max_age_s=259_200) == "age gave up: older than max_age 3d"
    assert reason(410) == "gone gave up: answered 410 Gone"
    assert verdict(500).reason is None
    assert verdict(200).reason is None


@given(st.binary(max_size=64))
def test_no_header_raises(header: bytes) -> None:
    asked = asked_wait_s(header, NOW)
    assert asked is None or asked >= 0


def test_outcomes_have_the_store_s_words() -> None:
    from shared.store.due import End

    assert {outcome.value for outcome in Outcome} == {end.value for end in End} - {"back"}
