"""Before a command changes what is kept: asking whether to, and saying who does."""

import os
import pwd
import sys

import click


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal, unless `yes`. Raises: click.Abort; UsageError where there is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this is no terminal to ask on: add --yes")
    click.confirm(question, abort=True, err=True)


def progress(done: int, total: int) -> None:
    """Show on a terminal how far it has come."""
    if sys.stderr.isatty() and total > done:
        click.echo(f"\r{done:,} of {total:,}", nl=False, err=True)


def user() -> str:
    """Return who runs this, by the system's own account and not by a variable that anyone sets."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
