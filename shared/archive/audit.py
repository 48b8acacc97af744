"""What operators did, as entries that move from Redis to the archive. It stands apart from the table, so that
reading Redis needs no SQL.
"""

from typing import Any

import msgspec

from shared.archive.search import FOR_EVER_MS

Position = tuple[int, int]


class AuditEntry(msgspec.Struct, frozen=True):
    """One entry, written before its action began.

    `id` is its id in Redis' stream: `<ms>-<n>`. `fields` are `action`, `user`, `selected` (an object), and
    objects of counts, such as `deliveries`.
    """

    id: str
    fields: dict[str, Any]

    @property
    def at_ms(self) -> int:
        """When it was written, in milliseconds since 1970 by Redis's clock."""
        return position(self.id)[0]

    @property
    def action(self) -> str:
        """What was done: `replay`, `admit` and the like."""
        return str(self.fields.get("action", ""))

    @property
    def user(self) -> str:
        """Who did it."""
        return str(self.fields.get("user", ""))


class AuditSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries: those for which all that is given holds. Both ends of the span are included."""

    since_ms: int = 0
    until_ms: int = FOR_EVER_MS
    action: str | None = None
    user: str | None = None

    def takes(self, entry: AuditEntry) -> bool:
        """Tell whether an entry of the span is one of those that are searched for."""
        return self.action in (None, entry.action) and self.user in (None, entry.user)


def position(id: str) -> Position:
    """Return what entries are in the order of. Raises: ValueError."""
    ms, _, number = id.partition("-")
    return int(ms), int(number)
