"""One soak from start to end: load and chaos, heal, drain, stop, reconcile."""

import http.client
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from shared.config.file import read_config
from shared.process.embedded import find_server, server_version
from shared.process.folder import data_folder, socket_path
from shared.providers import make_adapter
from tests.acceptance.gateway import SECRET, SOURCES, Gateway, target
from tests.soak.behaviour import TARGETS
from tests.soak.chaos import Chaos, Deed
from tests.soak.held import Lag, connect, lag, read_held
from tests.soak.reconcile import Reconciliation, reconcile
from tests.soak.records import Arrival
from tests.soak.report import Report
from tests.soak.senders import Senders
from tests.soak.sink import Ports
from tests.soak.watch import MemoryWatch, errors, left_behind

INGRESS, WORKERS = 2, 3
TICK_S = 0.1
TELL_S = 5.0
DRAIN_WITHIN_S = 180.0

ORDERS = f"""
[[sources]]
name = "orders"
provider = "standard-webhooks"
secrets = ["{SECRET}"]
transaction = "body.data.transaction_id"
payment = "body.data.payment_id"
amount_minor = "body.data.money.amount_minor"
currency = "body.data.money.currency"
"""
# What fails is soon tried again, and for as long as it takes: a soak has no three days.
PATIENT = {
    "timeout": '"2s"',
    "retry": '{ initial = "0.2s", factor = 2.0, max = "3s", attempts = 1000 }',
    "breaker": '{ failures = 10, initial = "0.5s", max = "3s" }',
}


def tables(ports: Ports) -> str:
    """Return the targets' part of the configuration."""
    return "".join(
        target(
            each.name,
            ports.cutting if each.cut else ports.straight,
            sources=msgspec.json.encode(each.sources).decode(),
            events=msgspec.json.encode(each.types).decode(),
            **(PATIENT | each.keys),
        )
        for each in TARGETS
    )


def soak(folder: Path, minutes: float, rate: float, seed: str, console: Console) -> Report:
    """Run it, and reconcile what the senders, the targets and the gateway wrote down."""
    records = folder / "arrivals.jsonl"
    argv = [sys.executable, "-m", "tests.soak.sink", "--file", str(records), "--seed", seed]
    sink = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert sink.stdout is not None
        ports = msgspec.json.decode(sink.stdout.readline(), type=Ports)
        (folder / "g").mkdir()
        gateway = Gateway(
            folder / "g", tables(ports), ingress=INGRESS, workers=WORKERS, sources=SOURCES + ORDERS
        )
        try:
            run = _Run(gateway.start(), ports, minutes=minutes, rate=rate, seed=seed, console=console)
            report = run.through(records)
        finally:
            code = gateway.stop() if gateway.process else 0
        if code:
            report.failures.append(f"the gateway ended with {code} when it was told to stop")
        report.failures += [f"left behind: {process}" for process in left_behind(folder / "g")]
        report.log_errors = errors(gateway.log)
        return report
    finally:
        sink.kill()
        sink.wait()


class _Run:
    """A gateway that runs, and what happens to it."""

    def __init__(
        self, gateway: Gateway, ports: Ports, *, minutes: float, rate: float, seed: str, console: Console
    ) -> None:
        self.gateway, self.ports, self.minutes, self.rate = gateway, ports, minutes, rate
        self.seed, self.console = seed, console
        self.redis: Redis = connect(str(socket_path(data_folder(gateway.config))))
        self.config = read_config(gateway.config)
        self.sources = [source.name for source in self.config.sources]
        self.targets = [target.name for target in self.config.targets]
        self.memory = MemoryWatch(gateway)
        self.lag: Lag | None = None
        adapters = [make_adapter(source) for source in self.config.sources]
        self.senders = Senders(adapters, gateway.port, per_s=rate, seed=seed)
        self.chaos = Chaos(gateway, self.redis, seed=seed, lasts_s=minutes * 60, tell=self.tell)
        self.began = time.monotonic()

    def tell(self, deed: Deed) -> None:
        self.console.print(f"{deed.at_s:7.1f} s  {deed.what}", markup=False)

    def through(self, records: Path) -> Report:
        """Disturb, heal, drain, reconcile."""
        self.senders.start()
        self.watched("load and chaos", self.minutes * 60, self.chaos.step)
        self.chaos.end()
        self.heal()
        self.senders.stop()
        stopped = time.monotonic()
        drained = self.watched("drain", DRAIN_WITHIN_S, until=self.nothing_waits)
        failures = [] if drained else [f"not drained within {DRAIN_WITHIN_S:.0f} s: {self.lag}"]
        drained_s = time.monotonic() - stopped
        memory = self.memory.summary()
        failures += [
            f"{kind} grew from {each.first} to {each.last} MiB"
            for kind, each in memory.items()
            if each.grew and kind != "redis-server"
        ]
        return Report(
            seed=self.seed,
            minutes=self.minutes,
            rate=self.rate,
            redis=".".join(map(str, server_version(find_server()))),
            drained_s=round(drained_s, 1) if drained else None,
            reconciliation=self.reconcile(records),
            memory=memory,
            log_errors={},
            failures=failures,
            deeds=self.chaos.deeds,
        )

    def reconcile(self, records: Path) -> Reconciliation:
        with records.open("rb") as lines:
            arrivals = [msgspec.json.decode(line, type=Arrival) for line in lines]
        records.with_name("requests.jsonl").write_bytes(
            b"\n".join(msgspec.json.encode(request) for request in self.senders.requests)
        )
        held = read_held(self.redis, self.sources, self.targets)
        return reconcile(self.senders.requests, arrivals, held, [each.rule for each in TARGETS])

    def heal(self) -> None:
        """End all misbehaviour of the targets that is not for ever."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.straight, timeout=10)
        connection.request("POST", "/control/heal")
        assert connection.getresponse().status == 200
        connection.close()
        self.console.print(f"{time.monotonic() - self.began:7.1f} s  all targets are well that get well")

    def nothing_waits(self) -> bool:
        self.look()
        return self.lag is not None and not self.lag

    def look(self) -> None:
        try:
            self.lag = lag(self.redis, self.sources, self.targets)
        except RedisError:
            self.lag = None  # it is being killed and stopped

    def watched(
        self,
        what: str,
        within_s: float,
        step: Callable[[], None] = lambda: None,
        until: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Do `step` again and again, and show how it goes. Returns whether `until` came true in time."""
        began = told = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        terminal = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not terminal) as progress:
            bar = progress.add_task(what, total=within_s)
            while (now := time.monotonic()) < began + within_s:
                step()
                if until():
                    return True
                if now - told >= TELL_S:
                    told = now
                    self.memory.sample()
                    self.look()
                    said = (
                        f"{what}: {len(self.senders.requests)} requests sent, {self.lag or 'nothing waits'}"
                    )
                    progress.update(bar, description=said)
                    if not terminal:
                        self.console.print(f"{now - self.began:7.1f} s  {said}", markup=False)
                progress.update(bar, completed=now - began)
                time.sleep(TICK_S)
        return False
