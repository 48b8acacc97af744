"""Before a command changes what is kept: asking whether to, and saying who does."""

import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal, unless `yes`. Raises: click.Abort; UsageError where there is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this is no terminal to ask on: add --yes")
    click.confirm(question, abort=True, err=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many are done, as it is told, and erase it at the end."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def user() -> str:
    """Return who runs this, by the system's own account and not by a variable that anyone sets."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
