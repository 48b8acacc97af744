"""Little to do: how long an event takes then, what it costs in processor time, and what idling costs."""

import time

from tests.bench.report import Chart, Goal, Result
from tests.bench.run import Run
from tests.bench.stack import Proc, Stack, stack
from tests.bench.traffic import Route, Sink, fan, paced, percentile

RATES = (10, 100, 1000)
SETTLE_S = 3.0
IDLE_S = 10.0
SAMPLES = 24


class Processes:
    """What one gateway consists of, and the processor time that each used since it was last asked."""

    def __init__(self, **processes: Proc) -> None:
        self.by_name = processes
        self._before = {name: process.cpu_s() for name, process in processes.items()}

    def used_s(self) -> dict[str, float]:
        now = {name: process.cpu_s() for name, process in self.by_name.items()}
        used = {name: now[name] - before for name, before in self._before.items()}
        self._before = now
        return used


def main(run: Run) -> Result:
    """Idle; then one event a second; then more, and what each process uses for one."""
    result = Result("trickle", "one ingress, one worker, one target; Redis on appendfsync always, logs on")
    with stack(run.folder) as it:
        sink = Sink(it.serve("tests.bench.sink"))
        it.configure(fan("fan-1", 1, sink.port, concurrency="64"))
        port, [ingress] = it.ingress()
        [worker] = it.workers(1)
        route = Route(port, sink, "fan-1", 1)
        processes = Processes(redis=it.server, ingress=ingress, worker=worker)
        add_idle(result, run, processes)
        for _ in run.each(range(1), "1 event/s"):
            waits = paced(it, route, 1, run.count(SAMPLES)).waits_ms
        result.add("p50 at 1 event/s", "ms", [percentile(waits, 50)], Goal(10, 5, upwards=False))
        add_costs(result, run, it, route, processes)
    return result


def add_idle(result: Result, run: Run, processes: Processes) -> None:
    """Measure what each process uses while nothing comes in."""
    shares: dict[str, list[float]] = {name: [] for name in processes.by_name}
    time.sleep(SETTLE_S)
    processes.used_s()
    for _ in run.each(range(2), "idle"):
        time.sleep(IDLE_S)
        for name, used_s in processes.used_s().items():
            shares[name].append(used_s / IDLE_S * 100)
    for name, process in processes.by_name.items():
        result.add(f"idle: {name}", "% of a core", shares[name])
        result.add(f"idle: {name}, memory", "MiB", [process.rss_mib()])
    together = [sum(each) for each in zip(*shares.values(), strict=True)]
    result.add("idle: all together", "% of a core", together, Goal(1.0, 0.5, upwards=False))


def add_costs(result: Result, run: Run, it: Stack, route: Route, processes: Processes) -> None:
    """Measure what each process uses for an event, at several rates: batches make it cheaper."""
    costs: dict[str, dict[int, list[float]]] = {
        name: {rate: [] for rate in RATES} for name in processes.by_name
    }
    for _ in run.rounds("cost of an event"):
        for rate in RATES:
            it.fresh()
            processes.used_s()
            sent = paced(it, route, rate, run.seconds(3)).sent
            for name, used_s in processes.used_s().items():
                costs[name][rate].append(used_s / sent * 1e6)
    lines: dict[str, list[tuple[float, float]]] = {}
    for rate in RATES:
        for name in processes.by_name:
            figure = result.add(f"{name} at {rate:,} events/s", "µs/event", costs[name][rate])
            lines.setdefault(name, []).append((rate, figure.median))
    result.charts.append(Chart("Processor time", "events/s", "µs an event", lines, log_x=True))
