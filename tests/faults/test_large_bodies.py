"""Bodies that take long to read: they are read once, nobody else waits for them, and no worker is ended."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched
from tests.waiting import wait_for

LARGE = 120
DEPTH = 122
BYTES = 256 * 1024
ONCE_IN_BETWEEN = 5


def large(n: int) -> bytes:
    """A body of the largest size, nearly all of it lists inside one another, which any provider may send."""
    nested = "[" * (DEPTH - 2) + "]" * (DEPTH - 2)
    about = {"type": "transaction_initiated", "token": f"large-{n}", "code": "basic_tx.joined"}
    about |= {"target_id": str(n), "time": "2026-03-02T11:30:00Z"}
    head = json.dumps(about)[:-1] + ',"x":['
    count = (BYTES - len(head) - 2) // (len(nested) + 1)
    return (head + ",".join([nested] * count) + "]}").encode()


def small(n: int) -> bytes:
    return json.dumps(
        {"eventType": "PaymentStatusChanged", "paymentId": f"P-{n}", "status": "FAILED"}
    ).encode()


def admitted(gateway: Watched) -> list[tuple[str, int]]:
    """What was admitted, in order: from which source, and how much at once."""
    return [(line["source"], line["admitted"]) for line in gateway.lines("admitted") if "admitted" in line]


def total(lines: list[tuple[str, int]], source: str) -> int:
    return sum(count for name, count in lines if name == source)


def arrived(gateway: Watched, source: str, count: int) -> bool:
    return total(admitted(gateway), source) == count


@pytest.mark.case(n=52)
@pytest.mark.timeout(600)  # the sink reads all of it again, in Python
@pytest.mark.parametrize("source", ["trustap", "trustshare"], ids=["by any worker", "in turn"])
def test_large_deep_bodies_hold_up_their_own_source_alone(source: str, folder: Path, sink: Sink) -> None:
    """Judged by the order in which things were admitted."""
    with Watched(folder, target("all", sink.port), sink) as gateway:
        [worker] = gateway.children("workers")
        os.kill(worker, signal.SIGSTOP)  # nothing is read until all of it is there
        try:
            for n in range(LARGE):
                assert gateway.post(source, large(n)).status == 200
            assert gateway.post("trustist", small(0)).status == 200
        finally:
            os.kill(worker, signal.SIGCONT)
        for n in range(1, ONCE_IN_BETWEEN + 1):
            wait_for(partial(arrived, gateway, "trustist", n), "the small event", within_s=60)
            assert gateway.post("trustist", small(n)).status == 200
        wait_for(partial(arrived, gateway, source, LARGE), "all to be admitted", within_s=120)
        lines = admitted(gateway)
        last = max(place for place, (name, _) in enumerate(lines) if name == source)
        assert total(lines[:last], "trustist") > 1, "others were admitted in between"
        assert gateway.children("workers") == [worker]
        assert gateway.lines("child died, starting it again") == []
