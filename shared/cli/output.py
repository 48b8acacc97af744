"""What all commands share: finding the configuration, asking Redis, and printing for people or scripts.

Whatever came from outside (a provider's ids, a target's answer) is printed with its control characters
escaped: a terminal obeys them.
"""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from shared import money
from shared.config import Config
from shared.configfile import ENV, find_config, find_running_config, read_config
from shared.errors import ConfigError, StoreUnavailable, Unreadable
from shared.events import Money
from shared.store.address import parse_address
from shared.store.client import RedisClient

REDIS_TIMEOUT_S = 5.0
WIDTH = 100
"""Tables are at least this wide: a narrower terminal wraps lines, where a table would cut ids."""

T = TypeVar("T")

config_option = click.option(
    "--config", "config", metavar="FILE", help=f"The configuration file (else ${ENV}, else ./headrace.toml)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table. A cell may have several lines; the first column's are never broken."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, not str: what a provider sent is no markup.
    cells = [[Text(_lines(cell)) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(columns):
        if number == 0:
            widest = max((line.cell_len for row in cells for line in row[0].split()), default=0)
            table.add_column(name, no_wrap=True, min_width=max(widest, len(name)))
        else:
            table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*row)
    columns_here = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    # A column that cannot be broken must fit whatever the width is.
    width = max(WIDTH, columns_here, *(row[0].cell_len for row in cells)) if cells else WIDTH
    Console(file=sys.stdout, width=width, highlight=False).print(table)


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
