"""`python -m tests.bench.client PORT CONNECTIONS SECONDS < request in hex`: one request over and over.

For machines without wrk. It reads no more of an answer than its status and its length.
"""

import asyncio
import json
import statistics
import sys
from time import perf_counter
from typing import cast

import uvloop


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    waits: list[float]
    failed = 0
    until = 0.0

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        self.sent = perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.data[:end].lower() + b"\r\n"
        start = head.find(b"content-length: ") + 16
        if len(self.data) < end + 4 + int(head[start : head.find(b"\r\n", start)]):
            return
        now = perf_counter()
        Client.waits.append(now - self.sent)
        Client.failed += not self.data.startswith(b"HTTP/1.1 200")
        self.data = b""
        if now < Client.until:
            self.send()
        else:
            self.transport.close()


async def main(port: int, connections: int, seconds: float, request: bytes) -> None:
    Client.waits = []
    started = perf_counter()
    Client.until = started + seconds
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Client(request), "127.0.0.1", port)
    await asyncio.sleep(seconds + 0.5)
    percentiles = statistics.quantiles(Client.waits, n=100)
    print(
        json.dumps(
            {
                "requests": len(Client.waits),
                "seconds": seconds,
                "failed": Client.failed,
                "p50": percentiles[49] * 1000,
                "p99": percentiles[98] * 1000,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), bytes.fromhex(sys.stdin.read())))
