"""Events a second of one worker, from a filled inbox to the sink, over one aiohttp process that only POSTs."""

import subprocess
import sys
import time

from shared.store.doorbell import ADMIT, Doorbell, envelope
from shared.store.keys import Keys
from tests.acceptance.gateway import clean_env, target
from tests.bench.events import SOURCE, fill
from tests.bench.machine import nginx_version
from tests.bench.report import Chart, Goal, Result
from tests.bench.run import TURNS, Run
from tests.bench.stack import Stack, stack, wait_until

KEYS = Keys()

EVENTS = 20_000
CONCURRENCY = 128
PATIENCE_S = 300.0
LOOPS = ("asyncio", "uvloop")  # as aiohttp comes, and as fast as it gets


def main(run: Run) -> Result:
    """Measure a worker and aiohttp in turns."""
    result = Result(
        "deliver",
        f"one process each to {nginx_version()}, {CONCURRENCY} at once; Redis on appendfsync always, logs on",
    )
    count = run.count(EVENTS) // TURNS
    ours: list[float] = []
    theirs: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    with stack(run.folder) as it:
        sink = it.sink()
        it.configure(target("sink", sink, concurrency=str(CONCURRENCY)))
        for _ in run.rounds("deliver"):
            took_s = dict.fromkeys(("headrace", *LOOPS), 0.0)
            for _ in range(TURNS):
                took_s["headrace"] += drain(it, count)
                for loop in LOOPS:
                    took_s[loop] += post(sink, count, loop)
            ours.append(TURNS * count / took_s["headrace"])
            for loop, rates in theirs.items():
                rates.append(TURNS * count / took_s[loop])
    result.add("headrace", "events/s", ours)
    result.add("aiohttp alone", "requests/s", theirs["asyncio"])
    result.add("aiohttp alone, on uvloop", "requests/s", theirs["uvloop"])
    result.add_ratio("÷ aiohttp alone", ours, theirs["asyncio"], Goal(1.2, 2.0))
    result.add_ratio("÷ aiohttp alone, on uvloop", ours, theirs["uvloop"])
    bars = {
        name: result.figure(name).median for name in ("headrace", "aiohttp alone", "aiohttp alone, on uvloop")
    }
    result.charts.append(Chart("Delivering, one process", "", "events/s", bars=bars))
    return result


def drain(it: Stack, count: int, workers: int = 1) -> float:
    """Give started workers a filled inbox; return how many seconds passed until the last delivery."""
    it.fresh()
    fill(it.socket, it.numbers(count), count)
    # Out of their sight until all of them listen, and then there at once.
    inbox = KEYS.inbox(SOURCE)
    it.redis.rename(inbox, "aside")
    it.redis.delete(*it.redis.keys("hr:rung:*"), KEYS.queue)
    started = it.workers(workers)
    try:
        it.redis.rename("aside", inbox)
        began = time.perf_counter()
        it.redis.lpush(KEYS.queue, envelope(Doorbell(ADMIT, SOURCE)))
        wait_until(
            lambda: it.redis.zcard(KEYS.finished) + it.redis.zcard(KEYS.packed) >= count,
            "delivery",
            within_s=PATIENCE_S,
            every_s=0.02,
        )
        return time.perf_counter() - began
    finally:
        for worker in started:
            worker.end()


def post(port: int, count: int, loop: str) -> float:
    """Return how many seconds aiohttp took."""
    argv = [sys.executable, "-m", "tests.bench.posting", str(port), str(count), str(CONCURRENCY), loop]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=clean_env())
    return float(done.stdout)
