"""`python -m tests.bench.sink PORT…`: answers 200 at once on the first port, and never on the others."""

import asyncio
import sys
from typing import cast

import uvloop


class Quick(asyncio.Protocol):
    """Answers each request with a fixed 200; counts only what it must to find where one ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower() + b"\r\n"
            start = head.find(b"content-length: ") + 16
            length = int(head[start : head.find(b"\r\n", start)])
            if len(self.data) < end + 4 + length:
                return
            self.data = self.data[end + 4 + length :]
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


class Hung(asyncio.Protocol):
    """Takes everything and says nothing."""


async def main(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for number, port in enumerate(ports):
        await loop.create_server(Quick if number == 0 else Hung, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1:]]))
