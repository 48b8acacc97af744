"""`python -m tests.bench.delay FROM TO MS`: a proxy between two Unix sockets that delays every reply.

What a Redis across a network does to a commit: its answers come later, and it does no less work.
"""

import asyncio
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One end of a connection; `peer` is the other."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.peer: Side | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self.early.append(data)
        elif self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self.peer.transport.write, data)
        else:
            self.peer.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer:
            self.peer.transport.close()


async def main(listen: str, connect: str, delay_s: float) -> None:
    loop = asyncio.get_running_loop()

    def accept() -> Side:
        near = Side(0)

        async def pair() -> None:
            _, far = await loop.create_unix_connection(lambda: Side(delay_s), connect)
            far.peer, near.peer = near, far
            for data in near.early:
                far.transport.write(data)

        pairs.add(task := loop.create_task(pair()))
        task.add_done_callback(pairs.discard)
        return near

    pairs: set[asyncio.Task[None]] = set()
    await loop.create_unix_server(accept, listen)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000))
