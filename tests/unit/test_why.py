"""Why a delivery waits or was given up: one word of a fixed set, with its facts."""

from typing import Any

import pytest

from shared.delivery.verdicts import GivenUp, Reason
from shared.store.due import Attempt
from shared.store.why import WaitFacts, why_given_up, why_waiting
from shared.values import duration_text

NOW = 1_800_000_000_000
LATER, MUCH_LATER = NOW + 60_000, NOW + 3_600_000
DUE = {"due_ms": NOW - 1, "failed": 2}


@pytest.mark.parametrize(
    ("word", "facts"),
    [
        ("due", {}),
        ("due", {"due_ms": LATER}),
        ("due", {"due_ms": LATER, "in_flight": 5, "concurrency": 5}),
        ("due", {"due_ms": MUCH_LATER, "open_until_ms": LATER}),
        ("due", {"open_until_ms": NOW}),
        ("due", {"rate_at_ms": NOW}),
        ("paused", {"state": "paused", "due_ms": LATER, "open_until_ms": MUCH_LATER}),
        ("paused", {"state": "paused", "due_ms": None}),
        ("disabled", {"state": "disabled"}),
        ("breaker", {"open_until_ms": LATER, "rate_at_ms": LATER}),
        ("breaker", {"open_until_ms": MUCH_LATER, "due_ms": LATER}),
        ("breaker", {"open_until_ms": NOW, "in_flight": 1}),
        ("rate", {"rate_at_ms": LATER, "in_flight": 5, "concurrency": 5}),
        ("concurrency", {"in_flight": 5, "concurrency": 5}),
        ("held", {"due_ms": None, "ahead": "evt_a", "open_until_ms": LATER}),
    ],
)
def test_each_reason_to_wait_has_its_word(word: str, facts: dict[str, Any]) -> None:
    assert why_waiting(WaitFacts(**(DUE | facts)), NOW).word == word


def test_the_facts_stand_beside_the_word() -> None:
    due = why_waiting(WaitFacts(due_ms=LATER, failed=2), NOW)
    assert (due.attempt, due.at) == (3, "2027-01-15T08:01:00.000Z")
    assert due.text == "attempt 3 is due at 2027-01-15T08:01:00.000Z"
    breaker = why_waiting(WaitFacts(due_ms=NOW, open_until_ms=LATER), NOW)
    assert (breaker.at, breaker.attempt) == ("2027-01-15T08:01:00.000Z", None)
    held = why_waiting(WaitFacts(ahead="evt_a", ahead_is_dead=True, transaction="tx-1"), NOW)
    assert (held.behind, held.behind_state, held.transaction) == ("evt_a", "dead", "tx-1")
    assert held.text == "behind evt_a, a dead letter of transaction tx-1"
    assert why_waiting(WaitFacts(ahead="evt_a"), NOW).behind_state == "waiting"
    assert (
        why_waiting(WaitFacts(state="paused", reason="by hand"), NOW).text == "the target is paused: by hand"
    )


@pytest.mark.parametrize("word", list(GivenUp))
def test_a_kept_reason_is_read_as_it_was_written(word: GivenUp) -> None:
    reason = Reason(word, "gave up: älter than max_age 3d")
    why = why_given_up(str(reason).encode(), 4, None)
    assert (why.word, why.text) == (word.value, reason.text)


@pytest.mark.parametrize(
    ("failed", "last", "word", "text"),
    [
        (14, Attempt(14, 1, 1, status=500), "attempts", "gave up after 14 attempts"),
        (1, Attempt(1, 1, 1, error="timeout: no answer"), "attempts", "gave up after 1 attempt"),
        (1, Attempt(1, 1, 1, status=410), "gone", "gave up: answered 410 Gone"),
        (0, Attempt(0, 1, 0, error="not sent: the target was removed"), "removed", None),
        (0, Attempt(0, 1, 0, error="not sent: the target is disabled"), "disabled", "disabled"),
        (3, Attempt(0, 1, 0, error="not sent: the target is paused"), "age", "paused for more than 7d"),
        (0, Attempt(0, 1, 0, error="not sent: the target is open"), "age", None),
        (0, None, "attempts", None),
    ],
)
def test_a_dead_letter_of_an_earlier_version_has_a_reason_too(
    failed: int, last: Attempt | None, word: str, text: str | None
) -> None:
    why = why_given_up(None, failed, last)
    assert why.word == word
    assert text in (None, why.text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((259_200, "3d"), (5400, "90m"), (90, "90s"), (60, "1m"), (1.5, "1.5s"), (0.25, "0.25s")),
        *((100, "100s"), (267_845.23, "3.1d"), (7 * 86400, "7d"), (3650 * 86400 - 1, "315359999s")),
    ],
)
def test_a_duration_is_said_as_a_configuration_has_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
