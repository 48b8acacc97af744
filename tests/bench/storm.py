"""Ten thousand deliveries due at one moment, a hundred at each of a hundred targets: how late they come, and
what ingress and Redis notice of it.
"""

import time
from typing import Any, NamedTuple

from shared.store.bells import Bells
from shared.store.client import RedisClient
from shared.store.doorbell import DELIVER, Doorbell
from shared.store.keys import Keys
from tests.acceptance.gateway import target
from tests.bench.events import admit, with_client
from tests.bench.report import Result
from tests.bench.run import Run
from tests.bench.stack import Stack, stack, wait_until
from tests.bench.traffic import PATIENCE_S, Route, Sink, fan, paced, percentile

KEYS = Keys()

TARGETS = 100
EACH = 100
SETTLE_S = 1.0
AHEAD_S = 2.0  # for the sender to be under way
RATE = 100.0
SECONDS = 6.0
SLOW_US = 100


class Storm(NamedTuple):
    """How late each delivery came, when the last one had, and by then: what ingress took to answer each
    request, and Redis's longest command.
    """

    late_ms: list[float]
    took_s: float
    answers_ms: list[float]
    longest_ms: float


def main(run: Run) -> Result:
    """Measure ingress alone, and beside a storm, in turns."""
    each = run.count(EACH)
    result = Result(
        "storm",
        f"{TARGETS * each:,} events due in the same millisecond, {each} at each of {TARGETS} targets; one "
        f"worker; beside it one ingress with {RATE:.0f} events/s for another target",
    )
    names = [f"storm-{n}" for n in range(TARGETS)]
    quiet: list[list[float]] = []
    storms: list[Storm] = []
    with stack(run.folder) as it:
        sink, other = (Sink(it.serve("tests.bench.sink")) for _ in range(2))
        # No source of theirs: what comes in meanwhile is not for them.
        storming = "".join(target(name, sink.port, sources='["none-*"]') for name in names)
        it.configure(fan("beside", 1, other.port) + storming)
        ingress, _ = it.ingress()
        route = Route(ingress, other, "beside", 1)
        for _ in run.rounds("storm"):
            it.fresh()
            first = it.numbers(TARGETS * each)
            admit(it.socket, first, TARGETS * each, lambda number: [names[number % TARGETS]])
            due_all(it, names, time.time() + 3600)
            [worker] = it.workers(1)
            time.sleep(SETTLE_S)
            quiet.append([ms for _, ms in paced(it, route, RATE, run.seconds(SECONDS)).answers])
            storms.append(storm(it, route, sink, names, TARGETS * each))
            worker.end()
    per_second = [len(each.late_ms) / each.took_s for each in storms]
    result.add("all delivered after", "s", [each.took_s for each in storms])
    result.add("meanwhile", "deliveries/s", per_second)
    result.add("lateness, p50", "ms", [percentile(each.late_ms, 50) for each in storms])
    result.add("lateness, p99", "ms", [percentile(each.late_ms, 99) for each in storms])
    result.add("Redis's longest command", "ms", [each.longest_ms for each in storms])
    beside = [percentile(each.answers_ms, 99) for each in storms]
    without = [percentile(answers, 99) for answers in quiet]
    result.add("ingress p99 meanwhile", "ms", beside)
    result.add("ingress p99 without", "ms", without)
    result.add_ratio("ingress p99 ÷ without", beside, without)
    return result


def due_all(it: Stack, names: list[str], at_s: float) -> None:
    """Have all that waits for some targets fall due at one moment, by Redis's clock, which is this machine's."""
    for name in names:
        ids: Any = it.redis.zrange(KEYS.due(name), 0, -1)
        it.redis.zadd(KEYS.due(name), dict.fromkeys(ids, int(at_s * 1000)))


def storm(it: Stack, route: Route, sink: Sink, names: list[str], count: int) -> Storm:
    """Let it come while ingress has a little to do."""
    sink.take()
    due_s = round(time.time() + AHEAD_S, 3)
    due = time.perf_counter() + due_s - time.time()
    due_all(it, names, due_s)

    async def ring(client: RedisClient) -> None:
        # A worker that looks now learns when to come back, as it does of retries that it put there itself.
        await Bells(client).ring([Doorbell(DELIVER, name) for name in names])

    with_client(it.socket, ring)
    it.redis.config_set("slowlog-log-slower-than", SLOW_US)
    it.redis.slowlog_reset()
    answers = paced(it, route, RATE, SECONDS).answers
    wait_until(lambda: sink.count() >= count, "the storm", within_s=PATIENCE_S, every_s=0.02)
    slow: Any = it.redis.slowlog_get(128)
    it.redis.config_set("slowlog-log-slower-than", -1)
    arrived = sink.take().at
    last = max(arrived)
    return Storm(
        late_ms=[(at - due) * 1000 for at in arrived],
        took_s=last - due,
        answers_ms=[ms for at, ms in answers if due <= at <= last],
        longest_ms=max((entry["duration"] for entry in slow), default=0) / 1000,
    )
