"""Printing for people and for scripts: tables, fields, JSON, bytes.

What came from outside (a provider's ids, a target's answer) is printed with its control characters escaped: a
terminal obeys them.
"""

import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import click
import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

STACKED = " / "
UNKNOWN = "–"
GAP = 2


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
    stand one below the other on a terminal that is not wide enough. What is not there, None or "", is a dash.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    head, *body = table(columns, list(rows), width).split("\n")
    click.secho(head, bold=True)
    for line in body:
        click.echo(line)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None) -> str:
    """Return a table at most `width` columns wide; None: as wide as it must be for one line a row."""
    names = [name for column in columns for name in column.split(STACKED)]
    cells = [[_cell(column, cell) for column, cell in zip(columns, row, strict=True)] for row in rows]
    flat = [list(chain.from_iterable(map(_flat, columns, row))) for row in cells]
    widths = [max(map(cell_len, column)) for column in zip(names, *flat, strict=True)]
    needed = sum(widths) + GAP * len(widths)
    if width is None or needed <= width:
        return _drawn(names, flat, needed)
    return _drawn(columns, cells, width)


def _cell(column: str, cell: object) -> str:
    """Return a cell's lines, at least as many as its column has names; of these, an empty one is a dash."""
    lines, names = _lines(cell).split("\n"), column.count(STACKED) + 1
    named = [line or UNKNOWN for line in lines[:names]]
    return "\n".join([*named, *[UNKNOWN] * (names - len(lines)), *lines[names:]])


def _flat(column: str, cell: str) -> list[str]:
    """Return a cell's lines as cells of one line, as many as its column has names."""
    lines, more = cell.split("\n"), column.count(STACKED)
    return [*lines[:more], "; ".join(line for line in lines[more:] if line)]


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
