"""The provider page: README.md's table of every provider's events, made from the adapters' own mappings.

`python -m tests.mapping` writes it between its two markers; a test fails where it is not current.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from shared.event.canonical import STATUS_OF, UNKNOWN
from shared.providers import ADAPTERS

BEGIN = "<!-- providers:begin -->"
END = "<!-- providers:end -->"
_COLUMNS = [provider for provider, adapter in ADAPTERS.items() if adapter.mapping]


def table() -> str:
    """Return the table in Markdown: a row for each canonical type, a column for each provider."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f"| type | status | {' | '.join(_COLUMNS)} |"
    yield f"|---|---|{'---|' * len(_COLUMNS)}"
    for type_, status in STATUS_OF.items():
        cells = [_names(provider, type_) for provider in _COLUMNS]
        if type_ == UNKNOWN:
            cells = ["*anything else*"] * len(_COLUMNS)
        yield f"| `{type_}` | {status or '–'} | {' | '.join(cells)} |"


def _names(provider: str, type_: str) -> str:
    """Return a provider's names for a canonical type."""
    mapping = ADAPTERS[provider].mapping
    return "<br>".join(f"`{name}`" for name, canonical in mapping.items() if canonical == type_)


def filled_in(page: str) -> str:
    """Return a page with the current table between its markers. Raises: ValueError without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def main(path: str) -> None:
    """Bring a page up to date."""
    page = Path(path)
    page.write_text(filled_in(page.read_text()))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "README.md")
