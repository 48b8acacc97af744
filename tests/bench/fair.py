"""Healthy targets beside hung ones: their throughput and waits over the same without the hung ones.

One worker process; an inbox that is filled at a steady pace; every healthy target gets every event. Rounds
with and without the hung targets alternate, so that what else the machine does weighs on both alike.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from redis import Redis

from shared.embedded import EmbeddedRedis, data_folder, server_version
from shared.store.address import parse_address
from shared.store.client import RedisClient
from shared.store.due import Attempt
from shared.store.inbox import Inbox, Received
from tests.acceptance.gateway import SOURCES, clean_env, free_port, target

DELIVERIES_A_SECOND = 900
SECONDS = 6
ROUNDS = 3


class Round(NamedTuple):
    """Deliveries a second to healthy targets, and the 99th percentile of receipt → done, in ms."""

    per_second: float
    p99_ms: float


async def feed(url: str, count: int, pace: float) -> None:
    """Commit and ring as ingress does, `pace` events a second."""
    client = RedisClient(parse_address(url), timeout_s=5)
    inbox = Inbox(client)
    started = time.monotonic()
    for number in range(count):
        body = b'{"type":"dispute_raised","from":"a","to":"b","token":"%d"}' % number
        await inbox.put([Received("trustshare", body, {})])
        await asyncio.sleep(max(0.0, started + (number + 1) / pace - time.monotonic()))
    await client.close()


def run_round(folder: Path, healthy: int, hung: int, sink: int, hole: int) -> Round:
    """Run one worker against targets of both kinds for a while."""
    config = folder / "headrace.toml"
    targets = "".join(target(f"healthy-{n}", sink) for n in range(healthy))
    # As many in flight at a hung target as the default allows, held for as long as the round lasts.
    targets += "".join(target(f"hung-{n}", hole, timeout='"60s"') for n in range(hung))
    config.write_text(f'redis.url = "embedded"\n{SOURCES}{targets}')
    embedded = EmbeddedRedis(data_folder(config))
    server = subprocess.Popen(embedded.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = Redis(unix_socket_path=str(embedded.socket))
    with open(folder / "worker.log", "wb") as log:
        argv = [sys.executable, "-m", "workers", "--config", str(config)]
        worker = subprocess.Popen(argv, stdout=log, stderr=log, env=clean_env())
    try:
        time.sleep(3)
        started = time.monotonic()
        pace = DELIVERIES_A_SECOND / healthy
        expected = int(pace * SECONDS)
        asyncio.run(feed(f"unix://{embedded.socket}", expected, pace))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            done = [client.hget(f"hr:target:healthy-{n}", "done") for n in range(healthy)]
            if all(count is not None and int(count) >= expected for count in done):
                break
            time.sleep(0.01)
        took_s = time.monotonic() - started
        waits: list[float] = []
        ids: list[Any] = [*client.zrange("hr:open", 0, -1), *client.zrange("hr:finished", 0, -1)]
        for id in ids:
            received = int(id[4:15], 16)
            attempts: dict[Any, Any] = client.hgetall(b"hr:attempts:" + id)
            for field, value in attempts.items():
                if field.startswith(b"healthy-"):
                    attempt = msgspec.json.decode(value, type=Attempt)
                    waits.append(attempt.at_ms + attempt.duration_ms - received)
        assert len(waits) == expected * healthy, (len(waits), expected * healthy)
        return Round(len(waits) / took_s, statistics.quantiles(waits, n=100)[98])
    finally:
        worker.kill()
        worker.wait()
        server.kill()
        server.wait()
        embedded.lock.close()


def compare(healthy: int, hung: int) -> None:
    """Print both kinds of rounds and their ratios."""
    sink, hole = free_port(), free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.sink", str(sink), str(hole)])
    alone: list[Round] = []
    beside: list[Round] = []
    try:
        time.sleep(0.5)
        for _ in range(ROUNDS):
            for rounds, count in ((alone, 0), (beside, hung)):
                with tempfile.TemporaryDirectory(prefix="hr-bench-") as folder:
                    rounds.append(run_round(Path(folder), healthy, count, sink, hole))
    finally:
        process.kill()
        process.wait()

    def middle(rounds: list[Round]) -> Round:
        return Round(*(statistics.median(column) for column in zip(*rounds, strict=True)))

    without, with_hung = middle(alone), middle(beside)
    print(
        f"{healthy} healthy targets alone: {without.per_second:,.0f} deliveries/s, p99 {without.p99_ms:.1f} ms\n"
        f"beside {hung} hung: {with_hung.per_second:,.0f} deliveries/s, p99 {with_hung.p99_ms:.1f} ms\n"
        f"ratios: throughput {with_hung.per_second / without.per_second:.2f},"
        f" p99 {with_hung.p99_ms / max(without.p99_ms, 1):.2f}"
    )


def main() -> None:
    """Run the benchmark."""
    from shared.embedded import find_server

    version = ".".join(map(str, server_version(find_server())))
    print(
        f"fair: {os.cpu_count()} cores, Redis {version}, appendfsync always, one worker, {ROUNDS} rounds each"
    )
    compare(9, 1)
    compare(90, 10)
