"""Calendar months in UTC: the archive has tables of its own for each, so that removing a month is dropping
them.

An event belongs to the month of its receipt, which its id begins with: so the ids of a month are one range.
"""

from datetime import UTC, datetime

import msgspec

from shared.event.ids import PREFIX, received_ms


class Month(msgspec.Struct, frozen=True, order=True):
    """A month, as counted from the year 0: `year * 12 + month - 1`."""

    number: int

    @property
    def name(self) -> str:
        """The end of the names of its tables: `2026_11`."""
        year, month = divmod(self.number, 12)
        return f"{year:04d}_{month + 1:02d}"

    @property
    def begins_ms(self) -> int:
        """When it begins, in milliseconds since 1970."""
        year, month = divmod(self.number, 12)
        return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000

    @property
    def next(self) -> "Month":
        """The month after it."""
        return Month(self.number + 1)

    @property
    def first_id(self) -> str:
        """The lower end of its events' ids; the upper one is that of the next month."""
        return first_id(self.begins_ms)


def first_id(ms: int) -> str:
    """Return what is not greater than any id of an event that came in at `ms` or later, and greater than all
    others.
    """
    return f"{PREFIX}{ms:011x}"


def month_at(ms: int) -> Month:
    """Return the month of a time in milliseconds since 1970."""
    time = datetime.fromtimestamp(ms // 1000, tz=UTC)
    return Month(time.year * 12 + time.month - 1)


def month_of(event_id: str) -> Month:
    """Return the month in which an event came in. Raises: ValueError."""
    return month_at(received_ms(event_id))


def named(name: str) -> Month:
    """Return the month whose tables' names end so. Raises: ValueError."""
    year, _, month = name.partition("_")
    if not 1 <= int(month) <= 12:
        raise ValueError("no month")
    return Month(int(year) * 12 + int(month) - 1)
