"""Targets that speak, and misspeak, HTTP over real sockets on loopback, one handler a connection."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

from shared.errors import EgressError
from shared.http import Answer, Egress, Endpoint
from shared.values import Private

T = TypeVar("T")

HEADERS = [(b"content-type", b"application/json")]
SOON_S = 0.3  # a deadline that is meant to pass
AMPLE_S = 20.0  # one that is not
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def run_on(loop_name: str, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` to its end; fail if it leaves a socket, or an error that nobody took."""
    unhandled: list[str] = []

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unhandled.append(str(context)))
        before = _sockets()
        async with asyncio.timeout(60):
            result = await main()
        for _ in range(500):
            await asyncio.sleep(0.005)
            if _sockets() <= before:
                break
        assert _sockets() <= before, "sockets were left open"
        gc.collect(1)  # the young: what this test left, without walking the whole suite
        return result

    factory = uvloop.new_event_loop if loop_name == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(watched())
    assert not unhandled, unhandled
    return result


def _sockets() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/self/fd/{fd}")
            if link.startswith("socket:"):
                found.add(link)
    return found


class Target:
    """A listening raw target: where it is, how often it was dialled, and what it was sent."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.open = 0
        self.requests: list[bytes] = []

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """Read one whole request and return its head."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        self.requests.append(head)
        return head

    async def until_closed(self, connections: int = 0) -> None:
        """Return once no more than so many connections are open."""
        while self.open > connections:  # noqa: ASYNC110  # a count, not a flag
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def target(
    handler: Callable[[Target, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Target]:
    """Serve every connection by `handler`; afterwards close whatever is open."""
    here = Target()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here.connections += 1
        here.open += 1
        try:
            await handler(here, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, as many of these tests want it to
        finally:
            here.open -= 1

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            writer.transport.abort()  # not within `serve`, which may be cancelled before it begins

        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(ended)

    server = await asyncio.start_server(connected, host, port, ssl=tls)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        await server.wait_closed()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(*pieces: bytes, pause_s: float = 0, then_close: bool = False) -> Any:
    """Return a handler that answers every request with the same bytes, piece by piece."""

    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await here.read(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if pause_s:
                    await asyncio.sleep(pause_s)
            if then_close:
                return

    return handler


async def gone(reader: asyncio.StreamReader) -> None:
    """Return when the client has closed; read and drop what it sends till then."""
    with contextlib.suppress(ConnectionResetError):  # it may close before it has read all
        while await reader.read(65536):
            pass


@contextlib.contextmanager
def deaf(host: str) -> Iterator[int]:
    """Give a port where connecting hangs: its queue is full, so the kernel drops what knocks."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(4):
            knock = stack.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.asynccontextmanager
async def client(**settings: Any) -> AsyncIterator[Egress]:
    egress = Egress(**settings)
    try:
        yield egress
    finally:
        await egress.close()


def at(port: int, *, host: str = "127.0.0.1", scheme: str = "http", **settings: Any) -> Endpoint:
    return Endpoint.parse(f"{scheme}://{host}:{port}/hooks", allow_private=Private.parse(True), **settings)


async def post(egress: Egress, endpoint: Endpoint, body: bytes = b"{}", timeout_s: float = AMPLE_S) -> Answer:
    return await egress.post(endpoint, endpoint.request(HEADERS, body), timeout_s)


async def refused(posted: Awaitable[Answer]) -> EgressError:
    with pytest.raises(EgressError) as caught:
        await posted
    return caught.value
