"""Retention of the real gateway: it keeps ahead of all that comes in, however fast."""

import asyncio
import http.client
import random
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.gateway import REQUESTS, Gateway, clean_env, free_port, target
from tests.bench import events
from tests.conftest import RedisServer
from tests.packed import finished
from tests.waiting import wait_for

MAXMEMORY = 96 * 1024 * 1024
TURNED_OVER = 5
CONNECTIONS = 32
UNDER_WAY = 512  # received and not delivered: ingress takes more than workers can
SAMPLE = 2000
NOTE_BYTES = 6000  # few large events fill a Redis as much as many small ones, sooner


def body(number: int) -> bytes:
    """A body of the benchmarks, with a note that cannot be compressed."""
    note = random.Random(number).randbytes(NOTE_BYTES // 2).hex()
    return events.body(number)[:-1] + b',"note":"%b"}' % note.encode()


@contextmanager
def quick_sink() -> Iterator[int]:
    """The benchmarks' target: it answers at once, and knows which events it got."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.sink", str(port)], env=clean_env())
    try:
        wait_for(lambda: asks(port, "/"), "the sink", within_s=30)
        yield port
    finally:
        process.kill()
        process.wait()


def ask(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def asks(port: int, path: str) -> bool:
    try:
        return bool(ask(port, path))
    except OSError:
        return False


async def send(gateway_port: int, sink_port: int, numbers: range) -> Counter[bytes]:
    """Send events as fast as they are delivered. Returns how often there was each status."""
    path, credentials = REQUESTS["trustshare"]
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in credentials.items())
    statuses: Counter[bytes] = Counter()
    waiting = iter(numbers)
    delivered = sent = 0
    room = asyncio.Condition()

    def there_is_room() -> bool:
        return sent < delivered + UNDER_WAY

    async def sender() -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway_port)
        for number in waiting:
            async with room:
                await room.wait_for(there_is_room)
            sent += 1
            content = body(number)
            writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            statuses[answer[9:12]] += 1
            if answer[9:12] != b"200":
                sent -= 1  # it will not be delivered, so that none waits for it
        writer.close()

    async def count() -> None:
        nonlocal delivered
        before = int(ask(sink_port, "/count"))
        while True:
            await asyncio.sleep(0.02)
            delivered = int(await asyncio.to_thread(ask, sink_port, "/count")) - before
            async with room:
                room.notify_all()

    counting = asyncio.ensure_future(count())
    await asyncio.gather(*(sender() for _ in range(CONNECTIONS)))
    counting.cancel()
    return statuses


@pytest.mark.case(n=44)
@pytest.mark.timeout(900)
def test_at_the_top_rate_memory_turns_over_five_times_and_no_request_is_refused(folder: Path) -> None:
    # Redis 6.2 takes another 10 MiB at once while it rewrites its log: a tenth of so little.
    rewrites = ("--auto-aof-rewrite-percentage", "0")
    server = RedisServer(folder, "--maxmemory", str(MAXMEMORY), *rewrites)
    server.start()
    redis = server.client()

    def used() -> int:
        return int(redis.info("memory")["used_memory"])

    try:
        with quick_sink() as sink_port:
            gateway = Gateway(folder, target("all", sink_port), redis_url=server.url)
            gateway.redis = redis
            with gateway:
                empty = used()
                statuses = asyncio.run(send(gateway.port, sink_port, range(SAMPLE)))
                wait_for(lambda: len(finished(redis)) == SAMPLE, "all to be delivered", within_s=60)
                each = (used() - empty) / SAMPLE
                count = int(TURNED_OVER * MAXMEMORY / each)
                statuses += asyncio.run(send(gateway.port, sink_port, range(SAMPLE, count)))
                assert statuses == {b"200": count}, "a request was refused"
                wait_for(lambda: not redis.exists("hr:open"), "all to be delivered", within_s=60)
                records = ask(sink_port, "/records")
                numbers = array("q", records[len(records) // 2 :])
                assert {*numbers} == {*range(count)}, "an event was lost"
                assert 0 < len(finished(redis)) < count - SAMPLE, "the newest are kept"
    finally:
        redis.close()
        server.kill()
