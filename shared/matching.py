"""Which targets an event goes to: globs over canonical types and source names, then CEL filters.

A filter sees the event as a receiver does: the context attributes (`type`, `source`, `subject`, `time` …)
and `data` with all its fields but `original`.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import cel

Filter = Callable[[dict[str, Any]], bool]

_SHAPE: dict[str, Any] = {
    **dict.fromkeys(("id", "source", "type", "subject", "time", "receivedat"), ""),
    "typeinferred": False,
    "data": {},
}


class Selective(Protocol):
    """What matching reads of a target."""

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


def compile_filter(text: str) -> Filter:
    """Compile a CEL expression to a predicate. A field that is not there makes it false.

    Raises: ValueError naming line and column where it does not compile, or the name it does not know.
    """
    try:
        program = cel.compile(text)
    except ValueError as error:
        place = re.search(r"<input>:(\d+):(\d+): (.*)", str(error))
        raise ValueError(
            f"does not compile: line {place[1]}, column {place[2]}: {place[3]}"
            if place
            else "does not compile"
        ) from None
    try:
        program.execute(_SHAPE)
    except RuntimeError as error:
        unknown = re.search(r"Undefined variable or function: '([^']*)'", str(error))
        if unknown:
            raise ValueError(f"knows no {unknown[1]!r}: it may use {', '.join(_SHAPE)}") from None
    except Exception:  # noqa: S110 — the shape is empty: a missing field is no mistake yet
        pass

    def matches(event: dict[str, Any]) -> bool:
        try:
            return program.execute(event) is True
        except Exception:
            return False

    return matches


class Matcher:
    """The targets of a configuration, ready to be asked."""

    def __init__(self, targets: Iterable[Selective]) -> None:
        self._targets = [
            (target, compile_filter(target.filter) if target.filter is not None else None)
            for target in targets
        ]
        self._by_globs: dict[tuple[str, str], tuple[tuple[str, Filter | None], ...]] = {}

    def targets_for(self, source: str, type: str, context: Callable[[], dict[str, Any]]) -> list[str]:
        """Return the names of the targets that match, in the configuration's order.

        `context` makes what filters see; it is called only where a target has one.
        """
        candidates = self._by_globs.get((source, type))
        if candidates is None:
            candidates = self._by_globs[source, type] = tuple(
                (target.name, filter_)
                for target, filter_ in self._targets
                if _any_glob(target.sources, source) and _any_glob(target.events, type)
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
