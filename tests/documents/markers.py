"""The one writer of marked parts."""

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
RENEW = "renew the pages: python -m tests.documents"

Parts = dict[str, Callable[[], str]]
"""The name of a part → what makes its text."""


def filled_in(page: str, name: str, text: str) -> str:
    """Return a page with `text` between the markers of `name`. Raises: ValueError if they are missing."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def renewed(page: str, parts: Parts) -> str:
    """Return a page with all of its parts made anew. Raises: ValueError if a marker is missing."""
    for name, make in parts.items():
        page = filled_in(page, name, make())
    return page


def renew(pages: dict[str, Parts]) -> list[str]:
    """Write the pages that are not current. Returns their paths, relative to the root."""
    written = []
    for name, parts in pages.items():
        path = ROOT / name
        old = path.read_text()
        if (new := renewed(old, parts)) != old:
            path.write_text(new)
            written.append(name)
    return written
