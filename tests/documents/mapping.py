"""The table of every provider's events, made from the adapters' own mappings."""

from collections.abc import Iterator

from shared.event.types import STATUS_OF, UNKNOWN
from shared.providers import ADAPTERS

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
