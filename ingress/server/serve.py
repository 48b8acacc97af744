"""Serves an ASGI application on a listening socket until told to stop. All connections share one gate."""

import asyncio
import signal
import socket
from typing import Any

import structlog
from starlette.types import ASGIApp, Message

from ingress.server.connection import Connection
from ingress.server.gate import Gate
from shared.process.listening import BACKLOG

log = structlog.get_logger()

GRACE_S = 6.0


class Lifespan:
    """The start and the end of the application, by ASGI's lifespan protocol."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self) -> bool:
        """Start the application; False if it cannot."""
        self._task = asyncio.create_task(self._run())
        return await self._say("lifespan.startup")

    async def stop(self) -> None:
        """End the application."""
        await self._say("lifespan.shutdown")
        await self._task

    async def _say(self, type: str) -> bool:
        await self._to_app.put({"type": type})
        answer = await self._from_app.get()
        return bool(answer["type"] == f"{type}.complete")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._to_app.get, self._from_app.put)
        except Exception:
            log.exception("the application failed at its start or its end")
            await self._from_app.put({"type": "failed"})


async def serve(app: ASGIApp, gate: Gate, listener: socket.socket, stop: asyncio.Event | None = None) -> bool:
    """Serve until SIGTERM, SIGINT or `stop`. Returns False if the application did not start."""
    loop = asyncio.get_running_loop()
    lifespan = Lifespan(app)
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    if not await lifespan.start():
        return False
    # Connections in the backlog wait for the process that is started next.
    server = await loop.create_server(
        lambda: Connection(app, gate, lifespan.state), sock=listener, backlog=BACKLOG
    )
    await stop.wait()
    server.close()
    await gate.end(GRACE_S)
    await lifespan.stop()
    return True
