"""A gateway that is watched: leaving it drains it and checks what must hold after every case."""

import http.client
import json
import os
import threading
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from redis import Redis

from tests.acceptance.canaries import CANARIES, CARD, EMAIL, NOTE
from tests.acceptance.gateway import SOURCES, Answer, Gateway
from tests.acceptance.sink import Sink
from tests.faults import invariants
from tests.faults.invariants import Receipt, Record
from tests.waiting import wait_for

INSIDE = Path(__file__).parent / "inside"
CONDITIONS = {"events", "sources", "filter"}


def body(**changes: Any) -> bytes:
    """An event of its own, with canaries in it."""
    fields = {"type": "dispute_raised", "from": EMAIL, "to": EMAIL, "token": uuid4().hex}
    return json.dumps(fields | {"description": f"{NOTE} {CARD}"} | changes).encode()


class Watched(Gateway):
    """A gateway at a sink. On the way out, unless the test failed: heal, drain, compare (I1–I4)."""

    drain_within_s = 60.0
    bodies_recur = False
    waits_for: tuple[str, ...] = ()
    """Targets to which something may be on its way at the end."""

    def __init__(
        self,
        folder: Path,
        targets: str,
        sink: Sink,
        *,
        workers: int = 1,
        sources: str = SOURCES,
        redis_url: str = "embedded",
        redis: Redis | None = None,
        inside: str = "",
        clock_s: float = 0,
    ) -> None:
        """`inside` names modules of tests/faults/inside for its processes; `redis` leads past `redis_url`."""
        super().__init__(folder, targets, workers=workers, sources=sources, redis_url=redis_url)
        self.redis = redis or self.redis
        self.sink = sink
        self.inside = f"connects {inside}"
        self.clock_s = clock_s
        self.connects = folder / "connects"
        self.receipts: list[Receipt] = []
        self.said: dict[str, str] = {}
        tables = tomllib.loads(targets).get("targets", [])
        self.archive_url = ""
        self.everyone = [table["name"] for table in tables if not CONDITIONS & table.keys()]

    def env(self) -> dict[str, str]:
        return super().env() | {
            "PYTHONPATH": str(INSIDE),
            "FAULTS_INSIDE": self.inside,
            "FAULTS_CONNECTS": str(self.connects),
            "FAULTS_CLOCK_S": str(self.clock_s),
        }

    def __exit__(self, *raised: object) -> None:
        kind = raised[0]
        try:
            if kind is None:
                self.drain()
                self.compare()
        finally:
            self.stop()
        if kind is None:
            self.said["log"] = self.log.read_text(errors="replace")
            invariants.nothing_leaks(self.said, CANARIES)

    def drain(self) -> None:
        """Wait until nothing is on its way any more."""
        wait_for(
            lambda: invariants.settled(self.redis, but=self.waits_for),
            "everything to be settled",
            within_s=self.drain_within_s,
        )

    def compare(self) -> None:
        """Check I1, I2 and I4, and collect what I3 is about: it is checked once the log has ended."""
        record = Record(self.redis, self.archive_url)
        at_sink = [name for name, port in self._ports().items() if port == self.sink.port]
        delivered = {name: self.sink.counts(name).keys() for name in at_sink}
        invariants.nothing_is_lost(record, delivered, self.receipts, self.everyone, self.waits_for)
        invariants.deliveries_hold_what_was_sent(self.sink, self.receipts)
        handed_back = sum(line["handed_back"] for line in self.lines("drained"))
        invariants.no_copy_is_delivered(
            record, self.sink, handed_back=handed_back, bodies_recur=self.bodies_recur
        )
        self.said |= invariants.listings(str(self.config), self.receipts[-1].id if self.receipts else None)
        for path in ("/livez", "/readyz"):
            self.said[path] = str(self.request("GET", path).body)
        messages: list[Any] = self.redis.lrange("headrace", 0, -1)
        self.said["doorbells"] = str(messages)
        used = [self.sink.port] if self.sink.deliveries else []
        invariants.only_allowed_are_dialled(
            self.connects.read_text().splitlines() if self.connects.exists() else [], self._allowed(), used
        )

    def _allowed(self) -> set[int]:
        """The ports that the configuration lets anything be sent to; and Redis's."""
        redis = tomllib.loads(self.config.read_text())["redis"]["url"]
        return {*self._ports(allowed=True).values()} | ({_port(redis)} if "127.0.0.1" in redis else set())

    def _ports(self, *, allowed: bool = False) -> dict[str, int]:
        """The port of each target; with `allowed`, of those that may be on this machine."""
        tables = tomllib.loads(self.config.read_text()).get("targets", [])
        return {
            table["name"]: _port(table["url"])
            for table in tables
            if table.get("allow_private") or not allowed
        }

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout_s: float = 10,
    ) -> Answer:
        answer = super().request(method, path, body, headers, timeout_s)
        if path.startswith("/webhooks/") and answer.status == 200 and b'"id"' in answer.body:
            self.receipts.append(Receipt(answer.id, path.split("/")[2], body))
        elif not path.startswith("/webhooks/") or answer.status != 200:
            self.said[f"{answer.status} of {path.split('/')[1]}"] = str(answer.body)
        return answer

    def processes(self) -> dict[str, list[int]]:
        """Its processes by kind."""
        return {kind: self.children(kind) for kind in ("ingress", "workers", "redis-server")}

    def resident_bytes(self, kind: str) -> int:
        """How much memory a process of a kind holds."""
        return resident_bytes(self.children(kind)[0])


def resident_bytes(pid: int) -> int:
    """How much memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _port(url: str) -> int:
    return int(url.split("/")[2].rpartition(":")[2])


class Providers:
    """Providers that send one event after another until told to stop, each until it is answered 200."""

    def __init__(self, gateway: Gateway, *, count: int = 4, pause_s: float = 0.0) -> None:
        self._gateway = gateway
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        self.accepted = 0
        self.refused: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.longest_s = 0.0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; an event that is under way is sent until it is in."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        assert not self.wrong, self.wrong[:5]
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._send(body())
            time.sleep(self._pause_s)

    def _send(self, event: bytes) -> None:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            started = time.monotonic()
            try:
                answer = self._gateway.post("trustshare", event, timeout_s=5, once=True)
            except (OSError, http.client.HTTPException) as error:
                self.refused[type(error).__name__] += 1  # its ingress died: like any provider, send it again
            else:
                self.longest_s = max(self.longest_s, time.monotonic() - started)
                if answer.status == 200:
                    self.accepted += 1
                    return
                self.refused[str(answer.status)] += 1
                if answer.status != 503 or not answer.headers["retry-after"].isdecimal():
                    self.wrong.append(f"{answer.status} {answer.body!r}")
            time.sleep(0.05)
        self.wrong.append("never answered 200")
