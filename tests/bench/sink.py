"""`python -m tests.bench.sink PORT…`: answers 200 at once on the first port, and never on the others.

It keeps when each event arrived (CLOCK_MONOTONIC, as the sender does) and which it was, by the number in its
body. `GET /count` says how many arrived; `GET /records` gives them, and forgets them.
"""

import asyncio
import sys
from array import array
from time import perf_counter
from typing import cast

import uvloop

TOKEN = b'"token":"'
DIGITS = 10
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

arrived = array("d")
numbers = array("q")


class Quick(asyncio.Protocol):
    """Answers each request with a fixed 200; reads only what it must."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            if self.data.startswith(b"GET "):
                body = told(self.data[4 : self.data.find(b" ", 4)])
                self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                self.data = self.data[end + 4 :]
                continue
            head = self.data[:end].lower() + b"\r\n"
            start = head.find(b"content-length: ") + 16
            length = int(head[start : head.find(b"\r\n", start)])
            if len(self.data) < end + 4 + length:
                return
            at = self.data.find(TOKEN, end) + len(TOKEN)
            arrived.append(perf_counter())
            numbers.append(int(self.data[at : at + DIGITS]))
            self.data = self.data[end + 4 + length :]
            self.transport.write(OK)


def told(path: bytes) -> bytes:
    """Answer a GET. The records are all the times, then all the numbers, eight bytes each."""
    if path == b"/count":
        return b"%d" % len(numbers)
    if path != b"/records":
        return b"ok"
    records = arrived.tobytes() + numbers.tobytes()
    del arrived[:], numbers[:]
    return records


class Hung(asyncio.Protocol):
    """Takes everything and says nothing."""


async def main(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for number, port in enumerate(ports):
        await loop.create_server(Quick if number == 0 else Hung, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1:]]))
