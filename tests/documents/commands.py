"""The table of all commands, as `headrace --help` lists them."""

from shared.cli import COMMANDS


def table() -> str:
    """Return the table in Markdown: a row for each command."""
    rows = (f"| `headrace {name}` | {help_} |" for name, (_, _, help_) in COMMANDS.items())
    return "\n".join(["| command | what it does |", "|---|---|", *rows])
