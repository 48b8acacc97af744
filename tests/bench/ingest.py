"""Authenticated, committed requests a second, over a bare Starlette route and over a raw ASGI function."""

import sys
from statistics import mean, median

from tests.acceptance.gateway import REQUESTS
from tests.bench.events import body
from tests.bench.load import Load, generator, hammer
from tests.bench.report import Chart, Goal, Result
from tests.bench.run import TURNS, Run
from tests.bench.stack import stack, wait_until

DELAY_MS = 2


def main(run: Run) -> Result:
    """Measure ingress, the references and ingress with a slow Redis, in turns."""
    result = Result(
        "ingest", f"one process each, Redis on appendfsync always, logs on, load by {generator()}"
    )
    path, headers = REQUESTS["trustshare"]
    headers = {**headers, "content-type": "application/json"}
    with stack(run.folder) as it:
        it.configure()
        ours, _ = it.ingress()
        slow = it.folder / "slow.sock"
        it.start([sys.executable, "-m", "tests.bench.delay", str(slow), str(it.socket), str(DELAY_MS)])
        wait_until(slow.exists, "the proxy")
        it.configure(socket=slow)
        delayed, _ = it.ingress()
        ports = {
            "headrace": ours,
            "route": it.serve("tests.bench.bare", "route"),
            "asgi": it.serve("tests.bench.bare", "asgi"),
            "delayed": delayed,
        }
        rates: dict[str, list[float]] = {name: [] for name in ports}
        p99s: dict[str, list[float]] = {name: [] for name in ports}
        for port in ports.values():
            hammer(port, path, headers, body(0), seconds=1)
        for _ in run.rounds("ingest"):
            loads: dict[str, list[Load]] = {name: [] for name in ports}
            for _ in range(TURNS):
                for name, port in ports.items():
                    loads[name].append(hammer(port, path, headers, body(0), seconds=run.seconds(4) / TURNS))
                    it.redis.flushall()
            for name in ports:
                rates[name].append(mean(load.per_second for load in loads[name]))
                p99s[name].append(median(load.p99_ms for load in loads[name]))
    result.add("headrace", "req/s", rates["headrace"])
    result.add("bare Starlette route", "req/s", rates["route"])
    result.add("raw ASGI function", "req/s", rates["asgi"])
    result.add_ratio("÷ bare route", rates["headrace"], rates["route"], Goal(0.75, 0.9))
    result.add_ratio("÷ raw ASGI", rates["headrace"], rates["asgi"])
    result.add(f"headrace, replies {DELAY_MS} ms late", "req/s", rates["delayed"])
    result.add_ratio("replies late ÷ bare route", rates["delayed"], rates["route"])
    bars = {
        name: result.figure(name).median for name in ("headrace", "bare Starlette route", "raw ASGI function")
    }
    result.charts.append(Chart("Taking events in, one process", "", "requests/s", bars=bars))
    result.add("headrace p99", "ms", p99s["headrace"])
    result.add("bare route p99", "ms", p99s["route"])
    return result
