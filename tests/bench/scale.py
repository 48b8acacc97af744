"""Two processes over one: workers on a filled inbox, ingress under load.

Everything runs on this machine, Redis, load and sink too: where that has two cores, there is little to win.
"""

from tests.acceptance.gateway import REQUESTS, target
from tests.bench.deliver import CONCURRENCY, drain
from tests.bench.events import SOURCE, body
from tests.bench.load import generator, hammer
from tests.bench.report import Result
from tests.bench.run import Run
from tests.bench.stack import stack

EVENTS = 20_000


def main(run: Run) -> Result:
    """Measure one and two of each kind, in turns."""
    result = Result("scale", f"Redis on appendfsync always, logs on, load by {generator()}")
    count = run.count(EVENTS)
    path, headers = REQUESTS[SOURCE]
    delivered: dict[int, list[float]] = {1: [], 2: []}
    taken: dict[int, list[float]] = {1: [], 2: []}
    with stack(run.folder) as it:
        sink = it.sink()
        it.configure(target("sink", sink, concurrency=str(2 * CONCURRENCY)))
        for _ in run.rounds("workers"):
            for workers, rates in delivered.items():
                rates.append(count / drain(it, count, workers))
        it.fresh()
        ports = {processes: it.ingress(processes)[0] for processes in taken}
        for _ in run.rounds("ingress"):
            for processes, port in ports.items():
                load = hammer(port, path, headers, body(0), seconds=run.seconds(4))
                taken[processes].append(load.per_second)
                it.fresh()
    for name, unit, found in (("worker", "events/s", delivered), ("ingress", "req/s", taken)):
        for processes, rates in found.items():
            result.add(f"{name}, {processes} process{'es' * (processes > 1)}", unit, rates)
        result.add_ratio(f"{name}, 2 ÷ 1", found[2], found[1])
    return result
