"""What moving to the archive costs the way from provider to target, and how fast what waits is caught up with."""

import time
from pathlib import Path

from tests.bench.report import Goal, Result
from tests.bench.run import Run
from tests.bench.stack import Stack, stack, wait_until
from tests.bench.traffic import Route, Sink, fan, saturated

WITHIN_S = 300.0
TAKEN_UP_S = 3.0


class Gateway:
    """A gateway with its own Redis, and an archive in SQLite or none."""

    def __init__(self, it: Stack, place: Path | None, *, hot: str) -> None:
        self.it = it
        self._sink = Sink(it.serve("tests.bench.sink"))
        self._targets = fan("fan-1", 1, self._sink.port, concurrency="64")
        self._url = f"sqlite:///{place / 'archive.db'}" if place else ""
        self.configure(hot)
        port, _ = it.ingress()
        it.workers(1)
        self.route = Route(port, self._sink, "fan-1", 1)

    def configure(self, hot: str) -> None:
        """Say how long finished events stay in Redis."""
        more = f'retention.hot = "{hot}"\narchive.url = "{self._url}"\n' if self._url else ""
        self.it.configure(self._targets, more=more)

    def waiting(self) -> int:
        """Return how many finished events are in Redis."""
        return self.it.redis.zcard("hr:finished") + self.it.redis.zcard("hr:packed")


def main(run: Run) -> Result:
    """Send as much as passes, in turns, to one with an archive and one without; then let the first catch up."""
    result = Result("archiving", "one ingress, one worker, one target, an archive in SQLite; Redis on always")
    with stack(run.folder) as one, stack(run.folder) as other:
        archives = Gateway(one, one.folder, hot="1s")
        plain = Gateway(other, None, hot="1h")
        rates: dict[str, list[float]] = {"with": [], "without": []}
        for _ in run.rounds("with an archive, and without"):
            for name, gateway in (("with", archives), ("without", plain)):
                rates[name].append(saturated(gateway.it, gateway.route, run.seconds(8)).per_second)
        for name, each in rates.items():
            result.add(f"{name} an archive", "events/s", each)
        result.add_ratio("with ÷ without", rates["with"], rates["without"], Goal(0.9, 1.0))
        caught = [caught_up(archives, run.seconds(8)) for _ in run.rounds("catching up")]
        result.add("caught up with", "events/s", caught)
        result.add_ratio("caught up with ÷ what passes", caught, rates["with"], Goal(1.0, 2.0))
    return result


def caught_up(gateway: Gateway, seconds: float) -> float:
    """Let finished events wait for a while, and then be moved. Returns how many a second are."""
    gateway.configure("1h")
    time.sleep(TAKEN_UP_S)
    saturated(gateway.it, gateway.route, seconds)
    gateway.configure("1s")
    waiting = gateway.waiting()
    wait_until(lambda: gateway.waiting() < waiting, "the first to move")
    before, began = gateway.waiting(), time.monotonic()
    wait_until(lambda: gateway.waiting() == 0, "all to move", within_s=WITHIN_S)
    return before / (time.monotonic() - began)
