"""Little to do: how long an event takes then, what it costs in processor time, and what idling costs."""

import time
from collections.abc import Mapping

from tests.bench.report import Chart, Goal, Result
from tests.bench.run import Run
from tests.bench.stack import Proc, stack
from tests.bench.traffic import Route, Sink, fan, paced, percentile

RATES = (10, 100, 1000)
SETTLE_S = 3.0


def main(run: Run) -> Result:
    """Idle; then one event a second; then more, and what each process uses for one."""
    result = Result("trickle", "one ingress, one worker, one target; Redis on appendfsync always, logs on")
    with stack(run.folder) as it:
        sink = Sink(it.serve("tests.bench.sink"))
        it.configure(fan("fan-1", 1, sink.port, concurrency="64"))
        port, [ingress] = it.ingress()
        [worker] = it.workers(1)
        route = Route(port, sink, "fan-1", 1)
        processes = {"Redis": it.server, "ingress": ingress, "worker": worker}

        time.sleep(SETTLE_S)
        idle: dict[str, list[float]] = {name: [] for name in processes}
        for _ in run.each(range(2), "idle"):
            seconds = 10.0
            for name, used in _used(processes, lambda: time.sleep(seconds)).items():  # noqa: B023
                idle[name].append(used / seconds * 100)
        for name, process in processes.items():
            result.add(f"idle: {name}", "% of a core", idle[name])
            result.add(f"idle: {name}, memory", "MiB", [process.rss_mib()])
        together = [sum(shares) for shares in zip(*idle.values(), strict=True)]
        result.add("idle: all together", "% of a core", together, Goal(1.0, 0.5, upwards=False))

        waits = [paced(it, route, 1, run.seconds(20)).waits_ms for _ in run.each(range(1), "1 event/s")]
        result.add("p50 at 1 event/s", "ms", [percentile(waits[0], 50)], Goal(10, 5, upwards=False))

        costs: dict[str, dict[int, list[float]]] = {name: {rate: [] for rate in RATES} for name in processes}
        for _ in run.rounds("cost of an event"):
            for rate in RATES:
                seconds = run.seconds(3)
                counted: list[int] = []

                def pass_some(rate: int = rate, seconds: float = seconds) -> None:
                    paced(it, route, rate, seconds)

                for name, used in _used(processes, pass_some).items():
                    costs[name][rate].append(used / counted[0] * 1e6)
                it.fresh()
    return result
