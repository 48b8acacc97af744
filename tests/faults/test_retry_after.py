"""Case 24: what a target says about when to come back is honoured within the bounds of its schedule."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body

OWN_S, MAX_S = 0.3, 4.0
LATE_S = 3.0  # a machine's slowness, not a wait
RETRY = f"{{ initial = '{OWN_S}s', factor = 1.0, max = '{MAX_S}s', attempts = 3, jitter = 0.0 }}"


@pytest.mark.case(n=24)
def test_every_form_of_retry_after_is_honoured_within_bounds(folder: Path, sink: Sink) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=600), usegmt=True)
    # What it says, and how long it is waited then.
    said = {
        "seconds": ("2", 2.0),
        "date": (soon, MAX_S),
        "past": (past, OWN_S),
        "negative": ("-1", OWN_S),
        "huge": ("1000000000", MAX_S),
        "junk": ("soon; 3\t4", OWN_S),
        "empty": ("", OWN_S),
        "float": ("1e3", OWN_S),
    }
    for number, (name, (value, _)) in enumerate(said.items()):
        sink.headers[name] = {"retry-after": value}
        status = (429, 503)[number % 2]
        sink.answers[name] = lambda _, before, status=status: status if before == 0 else 200  # type: ignore[misc]
    targets = "".join(target(name, sink.port, retry=RETRY) for name in said)
    with Watched(folder, targets, sink) as gateway:
        gateway.post("trustshare", body())
        for name, (_, wait_s) in said.items():
            first, second = sink.wait_for(name, 2)
            waited_s = second.at - first.at
            assert (name, wait_s - 0.1 < waited_s < wait_s + LATE_S) == (name, True), waited_s
