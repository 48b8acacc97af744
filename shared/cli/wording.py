"""How commands word times, money and counts."""

from shared.event import money
from shared.event.canonical import Money


def seconds(time: str | None) -> str | None:
    """Return an RFC 3339 time in UTC as people read it: `2026-03-02 10:01:44`."""
    return None if time is None else time[:19].replace("T", " ")


def amount(value: Money | None) -> str | None:
    """Return money as people write it: `1,500.00 GBP`."""
    return None if value is None else money.as_text(value)


def counted(count: int, one: str, several: str | None = None) -> str:
    """Return `1 delivery` or `3 deliveries`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def copies_suppressed(copies: int, differing: int) -> str:
    """Return `2 copies suppressed, 1 with another body`."""
    other = f", {differing:,} with another body" if differing else ""
    return f"{counted(copies, 'copy', 'copies')} suppressed{other}"
