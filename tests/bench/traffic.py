"""Events from a provider to a sink through ingress and a worker, and how long each of them took.

Sender and sink are processes of their own, with one clock: CLOCK_MONOTONIC of this machine.
"""

import math
import statistics
import subprocess
import sys
from array import array
from collections.abc import Sequence
from http.client import HTTPConnection
from typing import NamedTuple

from tests.acceptance.gateway import TRUSTSHARE_SECRET, clean_env, target
from tests.bench.stack import Stack, wait_until

WARM_UP_S = 1.0
UNDER_WAY = 512  # deliveries, closed loop: enough to keep every process busy
PATIENCE_S = 120.0
REFUSED_AT_MOST = 0.3  # a disk that stalls for a second takes that long a part of a short run


class Passage(NamedTuple):
    """What came of a stream of events.

    `sent`: how many, with those that warm up; `waits_ms`: sent → arrived, of each delivery; `answers`: when
    each was sent, and sent → 200 in ms; `lag_ms`: the last event sent → the last arrival; `per_second`:
    deliveries; `refused`: events not answered 200 (a disk that stalls for a second makes them 503).
    """

    sent: int
    waits_ms: list[float]
    answers: list[tuple[float, float]]
    lag_ms: float
    per_second: float
    refused: int


class Records(NamedTuple):
    """What a sink kept: when what arrived."""

    at: "array[float]"
    numbers: "array[int]"


class Sink:
    """A sink that keeps when each event arrived."""

    def __init__(self, port: int) -> None:
        self.port = port

    def _get(self, path: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def count(self) -> int:
        return int(self._get("/count"))

    def take(self) -> Records:
        """Return what arrived since this was called last."""
        content = self._get("/records")
        at, numbers = array("d"), array("q")
        at.frombytes(content[: len(content) // 2])
        numbers.frombytes(content[len(content) // 2 :])
        return Records(at, numbers)


class Route(NamedTuple):
    """A source and how many targets its events go to."""

    ingress: int
    sink: Sink
    source: str
    fan_out: int


def source(name: str) -> str:
    """Return the table of a source that takes what the sender sends."""
    return f'\n[[sources]]\nname = "{name}"\nprovider = "trustshare"\nsecrets = ["{TRUSTSHARE_SECRET}"]\n'


def fan(name: str, count: int, port: int, **keys: str) -> str:
    """Return a source and the targets that its events go to, and no others' do."""
    return source(name) + "".join(
        target(f"{name}-{n}", port, sources=f'["{name}"]', **keys) for n in range(count)
    )


def paced(it: Stack, route: Route, rate: float, seconds: float) -> Passage:
    """Send at a steady rate, and wait until all has arrived."""
    count = int(rate * (WARM_UP_S + seconds)) + 1
    return _pass(it, route, seconds, "--rate", str(rate), "--count", str(count))


def saturated(it: Stack, route: Route, seconds: float) -> Passage:
    """Send as many as are dealt with, always as many being under way."""
    window = max(8, UNDER_WAY // route.fan_out)
    options = {"sink": route.sink.port, "fan-out": route.fan_out, "window": window}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return _pass(it, route, seconds, *arguments, "--seconds", str(WARM_UP_S + seconds))


def _pass(it: Stack, route: Route, seconds: float, *how: str) -> Passage:
    """Run a sender to its end, and account for what arrived. What was sent first warms up, and is left out.

    Raises: RuntimeError where too many were not answered 200.
    """
    route.sink.take()
    file, first = it.folder / "sent", it.numbers(1_000_000)
    argv = [sys.executable, "-m", "tests.bench.sender", str(route.ingress), f"/webhooks/{route.source}"]
    done = subprocess.run(
        [*argv, str(file), str(first), *how], capture_output=True, text=True, env=clean_env(), check=False
    )
    if done.returncode:
        raise RuntimeError(f"the sender failed: {done.stderr[-2000:]}")
    times = array("d")
    times.frombytes(file.read_bytes())
    sent, answered = times[: len(times) // 2], times[len(times) // 2 :]
    refused = sum(map(math.isnan, answered))
    if refused > len(sent) * REFUSED_AT_MOST:
        raise RuntimeError(f"{refused} of {len(sent)} events were not answered 200")
    wait_until(
        lambda: route.sink.count() >= (len(sent) - refused) * route.fan_out,
        "delivery",
        within_s=PATIENCE_S,
        every_s=0.02,
    )
    at, numbers = route.sink.take()
    start, until = sent[0] + WARM_UP_S, sent[0] + WARM_UP_S + seconds
    return Passage(
        sent=len(sent),
        waits_ms=[
            (time - sent[number - first]) * 1000
            for time, number in zip(at, numbers, strict=True)
            if sent[number - first] >= start
        ],
        answers=[
            (at_s, (end - at_s) * 1000)
            for at_s, end in zip(sent, answered, strict=True)
            if at_s >= start and not math.isnan(end)
        ],
        lag_ms=(max(at) - sent[-1]) * 1000,
        per_second=sum(start <= time < until for time in at) / seconds,
        refused=refused,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile. Of few values the highest ones are the last it says anything of."""
    return (
        statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
    )
