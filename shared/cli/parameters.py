"""What commands take: event ids, moments, and which records to list."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
import msgspec

from shared.store.walk import Span
from shared.values import Duration

_EVENT_ID = re.compile(r"evt_[0-9a-f]{20,35}")
_FOR_EVER_MS = 2**53  # the largest whole number that a score holds exactly


class Ago(msgspec.Struct, frozen=True):
    """A moment counted back from now by Redis's clock."""

    ms: int


Moment = Ago | int


class _EventId(click.ParamType[str]):
    name = "event id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id, in lower case as it was made."""
        id = value.strip().lower()
        if not _EVENT_ID.fullmatch(id):
            self.fail(f"{value!r} is not an event id: one looks like evt_019a7c3b2e1f00c0ffee0")
        return id


class _Moment(click.ParamType[Moment]):
    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """Return the moment of `2h` or of an RFC 3339 time."""
        try:
            return Ago(Duration.parse(value).ms)
        except ValueError:
            pass
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a duration such as 2h nor a time such as 2026-03-02T10:00:00Z")
        if time.tzinfo is None:
            self.fail(f"{value!r} has no time zone: write 2026-03-02T10:00:00Z, or a duration such as 2h")
        return max(0, round(time.timestamp() * 1000))


EVENT_ID = _EventId()
MOMENT = _Moment()


def span_options(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--since` and `--until`; `what` says which time of a record they mean."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in ("until", "since"):
            function = click.option(
                f"--{name}",
                type=MOMENT,
                metavar="WHEN",
                help=f"Only what {what} {name} then: 2h (ago), or 2026-03-02T10:00:00Z.",
            )(function)
        return function

    return add


limit_option = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="List this many at most."
)


def span(since: Moment | None, until: Moment | None, now_ms: int) -> Span:
    """Return the span between two moments; without them, all of time up to now."""
    # Without `until` the end lies open: what comes in while we look is no mistake.
    return Span(_at(since, now_ms, 0), _at(until, now_ms, _FOR_EVER_MS))


def _at(moment: Moment | None, now_ms: int, otherwise: int) -> int:
    if moment is None:
        return otherwise
    return max(0, now_ms - moment.ms) if isinstance(moment, Ago) else moment
