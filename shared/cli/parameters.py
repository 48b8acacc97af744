"""What commands take: event ids, moments, and which records to list."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from shared.event.ids import received_ms
from shared.store.walk import ALWAYS, Span
from shared.values import Duration

_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?P<second>:\d\d(?P<fraction>\.\d{1,9})?)?(?:[Zz]|[+-]\d\d:\d\d)?)?"
)
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


class Ago(msgspec.Struct, frozen=True):
    """A moment counted back from now by Redis's clock."""

    ms: int


Moment = Ago | int


class _EventId(click.ParamType[str]):
    name = "event id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id, in lower case as it was made."""
        id = value.strip().lower()
        try:
            received_ms(id)
        except ValueError:
            self.fail(f"{value!r} is not an event id: one looks like evt_019a7c3b2e1f00c0ffee0")
        return id


class _Moment(click.ParamType[Moment]):
    """`2h`, a time as listings show it, or RFC 3339; a time without a zone is in UTC, as all times shown are.

    A time in whole seconds means all of its second: as the end of a span it is the last moment of it.
    """

    name = "moment"

    def __init__(self, *, is_end: bool) -> None:
        self._rest_ms = 999 if is_end else 0

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """Return the moment."""
        try:
            return Ago(Duration.parse(value).ms)
        except ValueError:
            pass
        match = _TIME.fullmatch(value)
        try:
            time = datetime.fromisoformat(value.upper())
        except ValueError:
            match = None
        if match is None:
            self.fail(f"{value!r} is neither a duration such as 2h nor a time such as 2026-03-02 10:01:44")
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        rest_ms = self._rest_ms if match["second"] and not match["fraction"] else 0
        return max(0, int((time - _EPOCH) / _MS) + rest_ms)


EVENT_ID = _EventId()


def span_options(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--since` and `--until`; `what` says which time of a record they mean."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in ("until", "since"):
            function = click.option(
                f"--{name}",
                type=_Moment(is_end=name == "until"),
                metavar="WHEN",
                help=f"Only what {what} {name} then: 2h (ago), 2026-03-02, or 2026-03-02 10:01:44 (UTC).",
            )(function)
        return function

    return add


limit_option = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="List this many at most."
)


def span(since: Moment | None, until: Moment | None, now_ms: int, *, ends_now: bool = False) -> Span:
    """Return the span between two moments; without them, all of time.

    `ends_now`: without `until` it ends at `now_ms`. What a command is about to change is counted and shown to
    the operator first: nothing that comes in meanwhile may be changed with it.
    """
    end_ms = now_ms if ends_now else ALWAYS.until_ms
    return Span(_at(since, now_ms, ALWAYS.since_ms), _at(until, now_ms, end_ms))


def _at(moment: Moment | None, now_ms: int, otherwise: int) -> int:
    if moment is None:
        return otherwise
    return max(0, now_ms - moment.ms) if isinstance(moment, Ago) else moment
