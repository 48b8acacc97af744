"""A TCP proxy between the gateway and a target, which cuts connections at random: before, amid and after."""

import asyncio
import contextlib
from random import Random


class CuttingProxy:
    """Passes bytes on to `port`; until healed, cuts about a third of the connections within a second."""

    def __init__(self, port: int, chance: Random) -> None:
        self.healed = False
        self._port = port
        self._chance = chance

    async def listen(self) -> int:
        """Start. Returns the proxy's own port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._port)
        both = asyncio.gather(_pass_on(reader, onward), _pass_on(onward_reader, writer))
        lasts_s = self._chance.uniform(0.001, 1.0) if self._chance.random() < 0.3 else None
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(None if self.healed else lasts_s):
                    await both
        finally:
            for end in (writer, onward):
                end.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
