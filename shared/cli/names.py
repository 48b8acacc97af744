"""Errors for names that do not exist: each lists those that do, the most similar first."""

import fnmatch
import re
from collections.abc import Iterable

import click

from shared.event.types import STATUS_OF
from shared.nearest import nearest_first
from shared.providers import ADAPTERS
from shared.settings import Config

# The characters of a type that a sender names itself, and of a glob over it.
_GLOB = re.compile(r"[A-Za-z0-9._/:*?\[\]!-]+")


def no_such(what: str, name: str, known: Iterable[str]) -> click.UsageError:
    """Return the error for a name that is not in `known`."""
    names = nearest_first(name, known)
    if not names:
        return click.UsageError(f"no {what} is named {name!r}: none is configured")
    return click.UsageError(f"no {what} is named {name!r}; there {_is(names)}: {', '.join(names)}")


def check_target(config: Config, name: str) -> None:
    """Check that a target is configured. Raises: UsageError."""
    names = [target.name for target in config.targets]
    if name not in names:
        raise no_such("target", name, names)


def check_narrowing(config: Config, source: str | None, type_: str | None = None) -> None:
    """Check the source, target and type by which a listing was narrowed. Raises: UsageError.

    Only listings that found nothing call this: the records may still hold names that left the configuration.
    """
    sources = [each.name for each in config.sources]
    if source is not None and source not in sources:
        raise no_such("source", source, sources)
    if type_ is None or any(fnmatch.fnmatchcase(each, type_) for each in STATUS_OF):
        return
    # A sender of these providers may have any type of its own.
    if _GLOB.fullmatch(type_) and any(ADAPTERS[each.provider].names_own_types for each in config.sources):
        return
    types = nearest_first(type_, STATUS_OF)
    raise click.UsageError(f"no event type matches {type_!r}; there are: {', '.join(types)}")


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
