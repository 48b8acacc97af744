"""Suggests names that are similar to one that does not exist."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'ledger'?` for the known name that is nearest; nothing if none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names, the most similar to `name` first."""
    return sorted(known, key=lambda each: -SequenceMatcher(None, name, each).ratio())
