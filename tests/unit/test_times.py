"""Times are turned to UTC without losing a digit, or left out."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.event.times import to_utc


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-04-09T10:08:42Z", "2025-04-09T10:08:42Z"),
        ("2025-12-25T10:00:00.000Z", "2025-12-25T10:00:00.000Z"),
        ("2025-04-09T10:08:41.905612674Z", "2025-04-09T10:08:41.905612674Z"),
        ("2026-03-02T10:01:44.0000001Z", "2026-03-02T10:01:44.0000001Z"),
        ("2025-12-31T23:30:00.5-01:00", "2026-01-01T00:30:00.5Z"),
        ("2024-03-01T00:15:00+05:45", "2024-02-29T18:30:00Z"),
        ("2025-01-01T00:00:00-00:00", "2025-01-01T00:00:00Z"),
        ("2025-01-01t00:00:00z", "2025-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_told_in_utc_with_all_its_digits(text: str, expected: str) -> None:
    assert to_utc(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "yesterday",
        "2025-04-09",
        "2025-04-09T10:08:42",
        "2025-04-09 10:08:42Z",
        "2025-04-09T10:08Z",
        "2025-02-29T10:00:00Z",
        "2025-13-01T10:00:00Z",
        "2025-01-01T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "2025-01-01T00:00:00+24:00",
        "2025-01-01T00:00:00+01:60",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2025-01-01T00:00:00.Z",
        "2025-01-01T00:00:00.0123456789Z",
        "2025-01-01T00:00:00Z\n",
        "٢٠٢٥-01-01T00:00:00Z",
        "1735689600",
    ],
)
def test_what_is_no_time_is_left_out(text: str | None) -> None:
    assert to_utc(text) is None


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.text("0123456789", max_size=9),
    st.integers(-1439, 1439),
)
def test_a_time_told_in_any_zone_comes_back_with_all_its_digits(
    moment: datetime, digits: str, offset_min: int
) -> None:
    moment = moment.replace(microsecond=0)
    fraction = f".{digits}" if digits else ""
    local = moment + timedelta(minutes=offset_min)
    hours, minutes = divmod(abs(offset_min), 60)
    zone = f"{'-' if offset_min < 0 else '+'}{hours:02}:{minutes:02}"
    utc = f"{moment.isoformat()}{fraction}Z"
    assert to_utc(f"{local.isoformat()}{fraction}{zone}") == utc
    assert to_utc(utc) == utc
