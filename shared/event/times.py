"""Times: those of providers in UTC, with every digit of their fraction; our own in milliseconds."""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-5][0-9]))"
)


def to_utc(text: str | None) -> str | None:
    """Return an RFC 3339 time in UTC, `2026-03-02T10:01:44.1234567Z`, its fraction digit for digit.

    Returns None for None, and for text that is not an RFC 3339 time: without an offset, of a day that does
    not exist, with more than nine digits of fraction, with a leap second (`:60`, which few receivers can
    read), or of a UTC year outside 1 to 9999. The event then has no time; a time is never guessed.
    """
    match = _RFC3339.fullmatch(text) if text is not None else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    offset = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    try:
        local = datetime(
            year, month, day, hour, minute, second, tzinfo=timezone(-offset if match[8] == "-" else offset)
        )
        utc = local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return utc.replace(tzinfo=None).isoformat() + (match[7] or "") + "Z"


def rfc3339_ms(epoch_ms: int) -> str:
    """Return `2026-03-02T10:01:44.123Z` for milliseconds since 1970 in UTC."""
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{_rfc3339(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=64)
def _rfc3339(epoch_s: int) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%dT%H:%M:%S}"
