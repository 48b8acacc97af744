"""How a command changes records: it asks first, records the user, and shows its progress."""

import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.cli.running import ask
from shared.errors import ArchiveUnavailable, CommandFailed, StoreUnavailable
from shared.settings import Config
from shared.store.client import RedisClient

T = TypeVar("T")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal, unless `yes`. Raises: click.Abort; UsageError if there is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this is no terminal to ask on: add --yes")
    click.confirm(question, abort=True, err=True)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many are done, as the caller reports it; erase it at the end.

    `total` is None if nobody knows how many there are.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def run_showing(
    config: Config,
    work: Callable[[RedisClient, Callable[[int], None]], Awaitable[T]],
    what: str,
    total: int,
    *,
    then: str = "Say it again for the rest",
) -> T:
    """Run `work`, which reports how many are done to its second argument, and show that on a terminal.

    Raises: CommandFailed if Redis or the file of dead letters goes away meanwhile. Its message says how many
    were done, and ends with `then`.
    """
    so_far = 0
    with progress(what, total) as show:

        def done(count: int) -> None:
            nonlocal so_far
            so_far = count
            show(count)

        try:
            return ask(config, lambda client: work(client, done))
        except (StoreUnavailable, ArchiveUnavailable) as error:
            raise CommandFailed(f"stopped after {so_far:,} of {total:,} {what}: {error}. {then}") from None


def user() -> str:
    """Return the user who runs this, as the system knows it: not from a variable, which anyone may set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
