"""`python -m tests.bench.sender PORT PATH FILE FIRST …`: a provider, whose events are each another one.

    --rate R --count N    N events at R a second, whatever becomes of them: who waits for answers before
                          sending more measures less the slower it gets
    --window W --sink PORT --fan-out F --seconds S
                          as many as are delivered, with W under way between here and the sink

Writes to FILE when each event was sent, then when it was answered 200 (NaN: it was not), by CLOCK_MONOTONIC.
"""

import argparse
import asyncio
import math
from array import array
from pathlib import Path
from time import perf_counter
from typing import cast

import uvloop

from tests.acceptance.gateway import REQUESTS
from tests.bench.events import SOURCE, body

CONNECTIONS = 32
MOST_CONNECTIONS = 512
TICK_S = 0.002
POLL_S = 0.004
PATIENCE = 7500  # polls


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, sender: "Sender") -> None:
        self.sender = sender
        self.data = b""
        self.number = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.sender.next(self)

    def send(self, number: int) -> None:
        self.number = number
        self.transport.write(self.sender.request(number))

    def data_received(self, data: bytes) -> None:
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.data[:end].lower() + b"\r\n"
        start = head.find(b"content-length: ") + 16
        if len(self.data) >= end + 4 + int(head[start : head.find(b"\r\n", start)]):
            self.sender.answered(self.number, self.data.startswith(b"HTTP/1.1 200"))
            self.data = b""
            self.number = -1
            self.sender.next(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.sender.lost(self)


class Sender:
    """Sends events and keeps their times. Where all connections are busy it opens more, up to a bound."""

    def __init__(self, port: int, path: str, first: int) -> None:
        self.port = port
        lines = {**REQUESTS[SOURCE][1], "host": "127.0.0.1", "content-type": "application/json"}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.head = f"POST {path} HTTP/1.1\r\n{head}content-length: {len(body(0))}\r\n\r\n".encode()
        self.first = first
        self.sent, self.done = array("d"), array("d")
        self.open = self.ended = 0
        self.idle: list[Connection] = []
        self.waiting: list[int] = []
        self.tasks: set[asyncio.Task[object]] = set()

    def request(self, number: int) -> bytes:
        return self.head + body(self.first + number)

    def send(self, at: float) -> None:
        """Send the next event; `at` is when it was time to."""
        number = len(self.sent)
        self.sent.append(at)
        self.done.append(math.nan)
        if self.idle:
            self.idle.pop().send(number)
        else:
            self.waiting.append(number)
            if self.open < MOST_CONNECTIONS:
                self.connect()

    def connect(self) -> None:
        self.open += 1
        loop = asyncio.get_running_loop()
        self.tasks.add(
            task := loop.create_task(loop.create_connection(lambda: Connection(self), "127.0.0.1", self.port))
        )
        task.add_done_callback(self.tasks.discard)

    def next(self, connection: Connection) -> None:
        if self.waiting:
            connection.send(self.waiting.pop(0))
        else:
            self.idle.append(connection)

    def answered(self, number: int, well: bool) -> None:
        if well:
            self.done[number] = perf_counter()
        self.ended += 1

    def lost(self, connection: Connection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        if connection.number >= 0:
            self.answered(connection.number, False)

    async def paced(self, rate: float, count: int) -> None:
        started = perf_counter() + TICK_S
        for number in range(count):
            due = started + number / rate
            now = perf_counter()
            if now < due:
                await asyncio.sleep(max(due - now, 0.001))
                now = max(due, perf_counter())
            # A sender that the machine holds back does not hide how long its events wait.
            self.send(min(now, due + TICK_S))

    async def windowed(self, sink: int, fan_out: int, window: int, seconds: float) -> None:
        until = perf_counter() + seconds
        reader, writer = await asyncio.open_connection("127.0.0.1", sink)
        before: int | None = None
        while perf_counter() < until:
            writer.write(b"GET /count HTTP/1.1\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            count = int(await reader.readexactly(int(head.rpartition(b": ")[2])))
            before = count if before is None else before
            while len(self.sent) < (count - before) // fan_out + window:
                self.send(perf_counter())
            await asyncio.sleep(POLL_S)
        writer.close()


async def main(options: argparse.Namespace) -> Sender:
    sender = Sender(options.port, options.path, options.first)
    for _ in range(CONNECTIONS):
        sender.connect()
    await asyncio.gather(*sender.tasks)
    if options.rate:
        await sender.paced(options.rate, options.count)
    else:
        await sender.windowed(options.sink, options.fan_out, options.window, options.seconds)
    for _ in range(PATIENCE):
        if sender.ended == len(sender.sent):
            break
        await asyncio.sleep(POLL_S)
    return sender


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("file", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("--rate", type=float)
    for option in ("--count", "--sink", "--fan-out", "--window"):
        parser.add_argument(option, type=int)
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    found = uvloop.run(main(given))
    given.file.write_bytes(found.sent.tobytes() + found.done.tobytes())
