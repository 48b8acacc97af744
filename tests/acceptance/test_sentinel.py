"""A Sentinel set instead of one Redis: ingress and worker find the master by it."""

import asyncio
import http.client
import os
import signal
import subprocess
from pathlib import Path

from shared.process.embedded import find_server
from shared.settings import PREFIX
from shared.store.address import parse_address
from shared.store.client import RedisClient
from tests.acceptance.gateway import HEADRACE, SOURCES, TRUSTSHARE_SECRET, clean_env, free_port, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

BODY = b'{"type":"dispute_raised","token":"%s"}'


async def burst(url: str) -> None:
    """Ask for more at once than there are connections: each waits for one."""
    client = RedisClient(parse_address(url, PREFIX), timeout_s=10)
    assert await asyncio.gather(*(client.redis.ping() for _ in range(300))) == [True] * 300
    await client.close()


def test_events_flow_through_the_master_that_sentinel_names(folder: Path, sink: Sink) -> None:
    redis_port, sentinel_port, port = free_port(), free_port(), free_port()
    sentinel = folder / "sentinel.conf"
    sentinel.write_text(
        f"port {sentinel_port}\ndir {folder}\nsentinel monitor main 127.0.0.1 {redis_port} 1\n"
    )
    config = folder / "headrace.toml"
    config.write_text(
        f'redis.url = "sentinel://127.0.0.1:{sentinel_port}/main/0"\ningress.port = {port}\n'
        + SOURCES
        + target("all", sink.port)
    )
    master = [
        *(str(find_server()), "--port", str(redis_port), "--dir", str(folder), "--save", ""),
        *("--appendonly", "yes", "--maxmemory", "100mb"),
    ]
    commands = [
        master,
        [str(find_server()), str(sentinel), "--sentinel"],
        [HEADRACE, "ingress", "--config", str(config)],
        [HEADRACE, "worker", "--config", str(config)],
    ]
    with open(folder / "log", "wb") as log:
        processes = [subprocess.Popen(argv, stdout=log, stderr=log, env=clean_env()) for argv in commands]
    try:

        def post(token: bytes) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request(
                    "POST", "/webhooks/trustshare", BODY % token, {"x-trustshare-secret": TRUSTSHARE_SECRET}
                )
                return connection.getresponse().status
            except OSError:
                return 0
            finally:
                connection.close()

        wait_for(lambda: post(b"first") == 200, "the ingress to take an event", within_s=60)
        sink.wait_for("all", 1, within_s=30)
        assert {delivery.event["type"] for delivery in sink.of("all")} == {"dispute.raised"}
        asyncio.run(burst(f"sentinel://127.0.0.1:{sentinel_port}/main/0"))
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(processes):
            process.wait(10)
        print((folder / "log").read_text(errors="replace"))  # pytest shows it if this failed
    assert os.path.getsize(folder / "log") > 0
