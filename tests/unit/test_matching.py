"""Which targets an event goes to, and in words why not to the others."""

from typing import Any

import msgspec
import pytest

from shared.routing.matching import Filter, Matcher, why_not


class Target(msgspec.Struct):
    name: str = "t"
    events: tuple[str, ...] = ("*",)
    sources: tuple[str, ...] = ("*",)
    filter: str | None = None


EVENT: dict[str, Any] = {
    "type": "payment.received",
    "source": "/sources/trustap",
    "data": {"money": {"amount_minor": 150000, "currency": "GBP"}, "payment_id": None, "details": {}},
}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Target(), None),
        (Target(events=("payment.*",), sources=("trust*",)), None),
        (Target(filter="data.money.amount_minor >= 150000"), None),
        (Target(filter="!has(data.details.reason)"), None),
        (Target(sources=("truust", "x*")), "sources: 'trustap' matches none of 'truust', 'x*'"),
        (Target(events=("payout.*",)), "events: 'payment.received' matches none of 'payout.*'"),
        (Target(filter="data.money.amount_minor < 0"), "filter: it is false"),
        (Target(filter="data.money"), "filter: it gives neither true nor false"),
        (Target(filter="data.details.reason == 'x'"), "filter: it meets a field that is not there: 'reason'"),
        (Target(filter="subject == 'x'"), "filter: it meets a field that is not there: 'subject'"),
        (
            Target(filter="data.payment_id.id == 'x'"),
            "filter: it meets a value that is null, or of another type",
        ),
        (Target(filter="1 / 0 == 1"), "filter: it cannot be computed over this event (ZeroDivisionError)"),
    ],
)
def test_a_target_is_matched_exactly_where_there_is_no_reason_not_to(
    target: Target, reason: str | None
) -> None:
    found = why_not(target, "trustap", "payment.received", EVENT)
    assert (found is None) if reason is None else (found is not None and found.startswith(reason))
    assert Matcher([target]).targets_for("trustap", "payment.received", lambda: EVENT) == (
        [] if reason else ["t"]
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [("1 +", "line 1, column"), ("data.x ==\n  == 1", "line 2, column 3"), ("nosuch == 1", "'nosuch'")],
)
def test_a_filter_that_does_not_compile_says_where(text: str, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        Filter(text)


def test_targets_come_in_the_configurations_order_and_filters_are_asked_last() -> None:
    def context() -> dict[str, Any]:
        raise AssertionError("no filter is asked")

    targets = [Target("b"), Target("a"), Target("c", events=("x",), filter="true")]
    assert Matcher(targets).targets_for("s", "payment.received", context) == ["b", "a"]
