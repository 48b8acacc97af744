"""What a worker remembers of what it admitted: bounded, and never more than a shortcut."""

import pytest

from shared.event.record import EventRecord
from workers import recent
from workers.recent import Recent


def event(id: str, size: int = 10) -> EventRecord:
    return EventRecord(id, b"{}", b"{}", b"x" * size)


def test_an_event_is_there_for_each_of_its_uses_and_then_gone() -> None:
    kept = Recent()
    kept.keep(event("a"), 2)
    assert kept.take("a") == event("a")
    assert kept.take("a") == event("a")
    assert kept.take("a") is None
    assert kept.take("b") is None


def test_what_goes_nowhere_is_not_kept() -> None:
    kept = Recent()
    kept.keep(event("a"), 0)
    assert kept.take("a") is None


def test_where_there_is_no_room_the_oldest_stay_for_they_are_delivered_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent, "KEEP_BYTES", 2 * (recent.OVERHEAD + 1004))
    kept = Recent()
    for id in "abc":
        kept.keep(event(id, 1000), 1)
    assert [kept.take(id) for id in "cab"] == [None, event("a", 1000), event("b", 1000)]
    kept.keep(event("d", 1000), 1)
    assert kept.take("d"), "and their room is free again"


def test_what_another_worker_has_delivered_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(recent, "monotonic", lambda: now)
    kept = Recent()
    kept.keep(event("a"), 1)
    now += recent.KEEP_S + 1
    kept.keep(event("b"), 1)
    assert kept.take("a") is None
    assert kept.take("b")
