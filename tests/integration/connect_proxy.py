"""A small CONNECT proxy over real sockets: it notes what it was asked for, and connects there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from shared.http.proxy import Proxy
from shared.secrets import Secret

from .raw_targets import Target, target

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
NAMES = {"a.test": "127.0.0.1"}  # what this proxy resolves


class ConnectProxy:
    """A running proxy: where it is, and the head of each CONNECT that came."""

    def __init__(self, here: Target) -> None:
        self.here = here

    @property
    def port(self) -> int:
        return self.here.port

    @property
    def heads(self) -> list[str]:
        return [head.decode() for head in self.here.requests]

    @property
    def asked_for(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]

    def way(self, credentials: str = "", *, resolves: bool = False, host: str = "127.0.0.1") -> Proxy:
        return Proxy.parse(Secret(f"http://{credentials}{host}:{self.port}"), resolves=resolves)


@contextlib.asynccontextmanager
async def connect_proxy(*, host: str = "127.0.0.1") -> AsyncIterator[ConnectProxy]:
    """Serve CONNECT: 200 and a tunnel, or 502 where nobody listens."""

    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        here.requests.append(head)
        name, _, port = head.split(b" ")[1].decode().rpartition(":")
        name = name.strip("[]")
        try:
            there = await asyncio.open_connection(NAMES.get(name, name), int(port))
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return
        writer.write(CONNECTED)
        with contextlib.closing(there[1]):
            await asyncio.gather(_relay(reader, there[1]), _relay(there[0], writer))

    async with target(handler, host=host) as here:
        yield ConnectProxy(here)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
