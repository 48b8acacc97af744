"""Which targets an event goes to: globs over canonical types and source names, then CEL filters.

A filter sees the event as a receiver does: the context attributes (`type`, `source`, `subject`, `time` …)
and `data` with all its fields but `original`.
"""

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from shared.event.expressions import compile_expression, undefined_name

NO_BOOLEAN = "gives neither true nor false"
NO_FIELD = "meets a field that is not there"
"""The beginnings of `Filter.why_not` if the filter's result is not a boolean, or a field is absent."""

_SHAPE: dict[str, Any] = {
    **dict.fromkeys(("id", "source", "type", "subject", "time", "receivedat"), ""),
    "typeinferred": False,
    "data": {},
}


class Selective(Protocol):
    """The keys of a target that matching reads."""

    @property
    def name(self) -> str:
        """The target's name."""

    @property
    def events(self) -> tuple[str, ...]:
        """Globs over canonical types."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Globs over source names."""

    @property
    def filter(self) -> str | None:
        """A CEL expression."""


class Filter:
    """A CEL expression as a predicate. It is false if a field is absent, or if it fails in any other way."""

    def __init__(self, text: str) -> None:
        """Compile. Raises: ValueError naming line and column, or the name that it does not know."""
        self._program = compile_expression(text, _SHAPE)

    def __call__(self, event: dict[str, Any]) -> bool:
        """Tell whether an event passes."""
        try:
            return self._program.execute(event) is True
        except Exception:
            return False

    def why_not(self, event: dict[str, Any]) -> str | None:
        """Return why an event does not pass, as text; None if it passes."""
        try:
            result = self._program.execute(event)
        except KeyError as error:
            return f"{NO_FIELD}: {error}"
        except Exception as error:
            if (absent := undefined_name(error)) is not None:
                return f"{NO_FIELD}: '{absent}'"
            if isinstance(error, TypeError):
                return "meets a value that is null, or of another type than it expects"
            return f"cannot be computed over this event ({type(error).__name__})"
        if result is True:
            return None
        return "is false" if result is False else NO_BOOLEAN


def why_not(target: Selective, source: str, type: str, context: dict[str, Any]) -> str | None:
    """Return why an event of a source does not go to a target, with the key's name; None if it goes there."""
    for key, patterns, text in (("sources", target.sources, source), ("events", target.events, type)):
        if not _any_glob(patterns, text):
            return f"{key}: {text!r} matches none of {', '.join(map(repr, patterns))}"
    reason = Filter(target.filter).why_not(context) if target.filter is not None else None
    return f"filter: it {reason}" if reason is not None else None


def source_matches(target: Selective, source: str) -> bool:
    """Tell whether a target takes events of a source at all."""
    return _any_glob(target.sources, source)


class Matcher:
    """Finds the targets of a configuration that an event goes to."""

    def __init__(self, targets: Iterable[Selective]) -> None:
        self._targets = [
            (target, Filter(target.filter) if target.filter is not None else None) for target in targets
        ]
        self._by_globs: dict[tuple[str, str], tuple[tuple[str, Filter | None], ...]] = {}

    def targets_for(self, source: str, type: str, context: Callable[[], dict[str, Any]]) -> list[str]:
        """Return the names of the targets that match, in the configuration's order.

        `context` returns the event as filters see it; it is called only if a target has a filter.
        """
        candidates = self._by_globs.get((source, type))
        if candidates is None:
            candidates = self._by_globs[source, type] = tuple(
                (target.name, filter_)
                for target, filter_ in self._targets
                if source_matches(target, source) and _any_glob(target.events, type)
            )
        seen: dict[str, Any] | None = None
        names = []
        for name, filter_ in candidates:
            if filter_ is not None:
                seen = context() if seen is None else seen
                if not filter_(seen):
                    continue
            names.append(name)
        return names


def _any_glob(patterns: Iterable[str], text: str) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
