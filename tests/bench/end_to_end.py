"""From the provider's request to the sink: how many events a second, and how long each takes at what load."""

from tests.bench.report import Chart, Goal, Result
from tests.bench.run import Run
from tests.bench.stack import stack
from tests.bench.traffic import Passage, Route, Sink, fan, paced, percentile, saturated

FAN_OUTS = (1, 3, 10)
LOADS = (10, 25, 50, 80)
GOAL = Goal(25, 10, upwards=False)


def main(run: Run) -> Result:
    """Find what passes at each fan-out, then send at shares of it; in turns."""
    result = Result(
        "end-to-end", "one ingress, one worker, own sender and sink; Redis on appendfsync always, logs on"
    )
    rates: dict[int, list[Passage]] = {fan_out: [] for fan_out in FAN_OUTS}
    found: dict[int, list[Passage]] = {load: [] for load in LOADS}
    with stack(run.folder) as it:
        sink = Sink(it.serve("tests.bench.sink"))
        it.configure("".join(fan(f"fan-{n}", n, sink.port, concurrency="64") for n in FAN_OUTS))
        ingress, _ = it.ingress()
        it.workers(1)
        routes = {n: Route(ingress, sink, f"fan-{n}", n) for n in FAN_OUTS}
        for _ in run.rounds("what passes"):
            for fan_out, route in routes.items():
                rates[fan_out].append(saturated(it, route, run.seconds(4)))
                it.fresh()
        for fan_out in FAN_OUTS:
            per_second = [passage.per_second / fan_out for passage in rates[fan_out]]
            result.add(f"sustained, fan-out {fan_out}", "events/s", per_second)
        sustained = result.figure("sustained, fan-out 1").median
        for _ in run.rounds("waits at fan-out 1"):
            for load in LOADS:
                found[load].append(paced(it, routes[1], sustained * load / 100, run.seconds(5)))
                it.fresh()
    lines: dict[str, list[tuple[float, float]]] = {}
    for load, passages in found.items():
        for percent in (50, 95, 99):
            waits = [percentile(passage.waits_ms, percent) for passage in passages]
            goal = GOAL if (load, percent) == (25, 99) else None
            figure = result.add(f"p{percent} at {load} % of it", "ms", waits, goal)
            lines.setdefault(f"p{percent}", []).append((load, figure.median))
        result.add(f"lag at the end of {load} %", "ms", [passage.lag_ms for passage in passages])
    refused = [
        sum(passage.refused for passage in passages) for passages in (*rates.values(), *found.values())
    ]
    result.add("requests not answered 200", "", [sum(refused)])
    result.charts.append(Chart("Provider to target", f"load, % of {sustained:,.0f} events/s", "ms", lines))
    return result
