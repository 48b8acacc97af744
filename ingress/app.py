"""The Starlette application: routes and lifespan."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ingress.commit import Committer
from ingress.gate import Gate
from ingress.health import Health
from ingress.webhooks import NOT_ALLOWED, NOT_FOUND, Webhooks
from shared import garbage
from shared.reload import ConfigFile
from shared.store.address import parse_address
from shared.store.client import RedisClient

# A provider gets its 503 within two seconds: connect and reply have one each.
REDIS_TIMEOUT_S = 1.0
LOOK_AT_FILE_S = 2.0


class Ingress(Starlette):
    """The application. Its one busy path goes straight to its endpoint.

    Starlette's middleware and its matching of routes cost more than all that the endpoint does.
    """

    def __init__(self, webhooks: Webhooks, **options: Any) -> None:
        super().__init__(**options)
        self._webhooks = webhooks

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Return what answers one request, or runs the lifespan."""
        if scope["type"] == "http":
            # `/webhooks/<source>` or `/webhooks/<source>/<token>`
            parts = scope["path"].split("/")
            if parts[1:2] == ["webhooks"] and 3 <= len(parts) <= 4 and all(parts[2:]):
                scope["path_params"] = dict(zip(("source", "token"), parts[2:], strict=False))
                return self._webhooks(scope, receive, send)
        return super().__call__(scope, receive, send)


def create_app(file: ConfigFile, gate: Gate) -> Starlette:
    """Return the application, which keeps the gate's limits as the file has them.

    Nothing connects before its lifespan starts.
    """
    config = file.config
    client = RedisClient(parse_address(config.redis.url), timeout_s=REDIS_TIMEOUT_S)
    committer = Committer(client, config)
    health = Health(client, committer)
    webhooks = Webhooks(committer, config)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        def reload(*, always: bool) -> None:
            if file.reload(always=always):
                webhooks.use(file.config)
                committer.use(file.config)
                gate.use(file.config.ingress)

        async def watch_file() -> None:
            while True:
                await asyncio.sleep(LOOK_AT_FILE_S)
                reload(always=False)

        # By default SIGHUP ends uvicorn.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, partial(reload, always=True))
        reload(always=True)  # for a signal that came while there was no handler yet
        await committer.check()
        garbage.settle()
        watching = [asyncio.create_task(committer.watch()), asyncio.create_task(watch_file())]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await committer.close()
            await client.close()

    app = Ingress(
        webhooks,
        routes=[
            Route("/livez", health.live),
            Route("/readyz", health.ready),
        ],
        exception_handlers={HTTPException: _plain_error},
        lifespan=lifespan,
    )
    # A redirect is an answer that no provider follows.
    app.router.redirect_slashes = False
    return app


async def _plain_error(_request: Request, error: Exception) -> Response:
    """Answer what Starlette's router refuses (404, 405) in the words of `ingress.webhooks`."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    reason = NOT_FOUND[1] if status == 404 else NOT_ALLOWED[1]
    return Response(reason, status, headers, "application/json")
