"""Healthy targets beside hung ones: their throughput and waits over the same without the hung ones.

One worker process, at about half of what it sustains; every healthy target gets every event. Rounds with and
without the hung targets alternate, so that what else the machine does weighs on both alike.
"""

from statistics import mean

from tests.acceptance.gateway import free_port, target
from tests.bench.report import Goal, Result
from tests.bench.run import TURNS, Run
from tests.bench.stack import Stack, stack
from tests.bench.traffic import Passage, Route, Sink, paced, percentile, saturated

CASES = ((9, 1), (90, 10))
SOURCE = "trustshare"
LOAD = 0.5


def main(run: Run) -> Result:
    """Measure both kinds of rounds, few targets and many."""
    result = Result(
        "fair",
        f"one worker at {LOAD:.0%} of what it sustains; hung targets take all and answer nothing; "
        "Redis on appendfsync always, logs on",
    )
    with stack(run.folder) as it:
        hole = free_port()
        sink = Sink(it.serve("tests.bench.sink", str(hole)))
        it.configure()
        ingress, _ = it.ingress()
        for healthy, hung in CASES:
            compare(result, run, it, Route(ingress, sink, SOURCE, healthy), hung, hole)
    return result


def compare(result: Result, run: Run, it: Stack, route: Route, hung: int, hole: int) -> None:
    """Measure healthy targets alone and beside `hung` ones at the port `hole`, in turns."""
    healthy = "".join(target(f"healthy-{n}", route.sink.port) for n in range(route.fan_out))
    # As many in flight at a hung target as the default allows, held for longer than a round lasts.
    beside = "".join(target(f"hung-{n}", hole, timeout='"60s"') for n in range(hung))
    name = f"{route.fan_out} healthy"
    it.configure(healthy)
    [worker] = it.workers(1)
    # The least that it sustains: a machine that others slow down must not be at its limit at half of its best.
    sustained = min(saturated(it, route, run.seconds(4) / 2).per_second for _ in range(TURNS))
    rate = sustained / route.fan_out * LOAD
    worker.kill()
    kinds = ("alone", f"beside {hung} hung")
    per_second: dict[str, list[float]] = {kind: [] for kind in kinds}
    p99: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in run.rounds(name):
        found: dict[str, list[Passage]] = {kind: [] for kind in kinds}
        for _ in range(TURNS):
            for kind, targets in zip(kinds, (healthy, healthy + beside), strict=True):
                it.configure(targets)
                it.fresh()
                # A new one: what the turn before left hung would hold room in this one.
                [worker] = it.workers(1)
                found[kind].append(paced(it, route, rate, run.seconds(10) / TURNS))
                worker.kill()
        for kind, passages in found.items():
            per_second[kind].append(mean(each.per_second for each in passages))
            p99[kind].append(percentile([wait for each in passages for wait in each.waits_ms], 99))
    for kind in kinds:
        result.add(f"{name} {kind}", "deliveries/s", per_second[kind])
        result.add(f"{name} {kind}, p99", "ms", p99[kind])
    alone, with_hung = kinds
    result.add_ratio(f"{name}, throughput ÷ alone", per_second[with_hung], per_second[alone], Goal(0.9, 0.95))
    result.add_ratio(f"{name}, p99 ÷ alone", p99[with_hung], p99[alone], Goal(1.25, 1.1, upwards=False))
