"""What all commands share: finding the configuration, asking Redis, and printing for people or scripts.

Whatever came from outside (a provider's ids, a target's answer) is printed with its control characters
escaped: a terminal obeys them.
"""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared import cli
from shared.config.file import ENV, find_config, find_running_config, read_config
from shared.errors import ConfigError, StoreUnavailable, Unreadable
from shared.event import money
from shared.event.canonical import Money
from shared.settings import Config
from shared.store.address import parse_address
from shared.store.client import RedisClient

REDIS_TIMEOUT_S = 5.0
STACKED = " / "
GAP = 2

config_option, json_option = cli.config_option, cli.json_option
"""Every command that lists takes these, before its name or after it."""

T = TypeVar("T")


def config_path(option: str | None) -> Path:
    """Return the configuration file for what is about to run. Raises: ConfigError."""
    return _given(find_config(option))


def running_config(option: str | None) -> Config:
    """Return the configuration of what runs here, of a demo if of nothing else. Raises: ConfigError."""
    return read_config(_given(find_running_config(option)))


def _given(path: Path | None) -> Path:
    if path is None:
        raise ConfigError("", f"no configuration: give --config FILE, or set {ENV}")
    return path


def ask(config: Config, body: Callable[[RedisClient], Awaitable[T]]) -> T:
    """Run `body` with a connection to the configuration's Redis. Raises: StoreUnavailable naming it."""
    address = parse_address(config.redis.url)

    async def run() -> T:
        client = RedisClient(address, timeout_s=REDIS_TIMEOUT_S)
        try:
            return await body(client)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"Redis at {address.shown}: {error}") from None
        finally:
            await client.close()

    return asyncio.run(run())


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_bytes(content: bytes) -> None:
    """Print bytes as they are; on a terminal as text, with control characters escaped."""
    if sys.stdout.isatty():
        click.echo("\n".join(plain(line) for line in content.decode("utf-8", "replace").split("\n")))
    else:
        click.echo(content)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: one line a row if that fits, as it always does in a pipe.

    A cell of a column such as `EVENT / RECEIVED` has two lines, an id and a time. They are a column each, or
    stand one below the other on a terminal that is not wide enough.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    head, *body = table(columns, list(rows), width).split("\n")
    click.secho(head, bold=True)
    for line in body:
        click.echo(line)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None) -> str:
    """Return a table at most `width` columns wide; None: as wide as it must be for one line a row."""
    names = [name for column in columns for name in column.split(STACKED)]
    flat = [list(chain.from_iterable(map(_flat, columns, row))) for row in rows]
    widths = [max(map(cell_len, cells)) for cells in zip(names, *flat, strict=True)]
    needed = sum(widths) + GAP * len(widths)
    if width is None or needed <= width:
        return _drawn(names, flat, needed)
    return _drawn(columns, [[_lines(cell) for cell in row] for row in rows], width)


def _flat(column: str, cell: object) -> list[str]:
    """Return a cell's lines as cells of one line, as many as its column has names."""
    lines = _lines(cell).split("\n")
    more = column.count(STACKED)
    parts = [*lines[:more], "; ".join(line for line in lines[more:] if line)]
    return [*parts, *[""] * (more + 1 - len(parts))]


def _drawn(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    drawn = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    cells = list(zip(names, *rows, strict=True))
    words = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in cells]
    lines = max(cell_len(line) for cell in cells[0] for line in cell.split("\n"))
    # The first column holds what is copied: it is never broken, however narrow the terminal is.
    whole_words = lines + sum(words[1:]) + GAP * len(names) <= width
    for number, name in enumerate(names):
        if number == 0:
            drawn.add_column(name, no_wrap=True, min_width=lines)
        else:
            drawn.add_column(name, overflow="fold", min_width=words[number] if whole_words else None)
    for row in rows:
        drawn.add_row(*map(Text, row))  # Text, not str: what a provider sent is no markup
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line; what is None is left out."""
    shown = [(name, value) for name, value in fields if value is not None]
    widest = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        first, *rest = _lines(value).split("\n")
        click.echo(f"{name:<{widest}}  {first}")
        for line in rest:
            click.echo(f"{'':<{widest}}  {line}")


def _lines(cell: object) -> str:
    return "\n".join(plain(line) for line in str("" if cell is None else cell).split("\n"))


def plain(text: str) -> str:
    """Return `text` with everything that is not printable escaped."""
    return (
        text
        if text.isprintable()
        else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    )


def seconds(time: str | None) -> str | None:
    """Return an RFC 3339 time in UTC as people read it: `2026-03-02 10:01:44`."""
    return None if time is None else time[:19].replace("T", " ")


def amount(value: Money | None) -> str | None:
    """Return money as people write it: `1,500.00 GBP`."""
    if value is None:
        return None
    try:
        digits = money.exponent(value.currency)
    except Unreadable:
        return f"{value.amount_minor} minor units of {value.currency}"
    whole, rest = divmod(abs(value.amount_minor), 10**digits)
    sign = "-" if value.amount_minor < 0 else ""
    return f"{sign}{whole:,}{f'.{rest:0{digits}}' if digits else ''} {value.currency}"


def counted(count: int, one: str, several: str | None = None) -> str:
    """Return `1 delivery` or `3 deliveries`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def copies_suppressed(copies: int, differing: int) -> str:
    """Return `2 copies suppressed, 1 with another body`."""
    other = f", {differing:,} with another body" if differing else ""
    return f"{counted(copies, 'copy', 'copies')} suppressed{other}"
