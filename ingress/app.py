"""What answers: the endpoint of webhooks, the Starlette application beside it, and the lifespan of both."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingress.commit import Committer
from ingress.gate import Gate
from ingress.health import Health
from ingress.replies import NOT_ALLOWED, NOT_FOUND
from ingress.webhooks import Webhooks
from shared import garbage
from shared.background import BackgroundTasks
from shared.reload import ConfigFile
from shared.store.address import parse_address
from shared.store.pipelined import PipelinedClient

# A provider gets its 503 within two seconds: a commit has so long, connecting included.
REDIS_TIMEOUT_S = 1.5
LOOK_AT_FILE_S = 2.0


def create_app(file: ConfigFile, gate: Gate) -> tuple[Starlette, Webhooks]:
    """Return the application and, beside it, the endpoint that connections hand webhooks to without it.

    Its lifespan keeps both, and the gate's limits, as the file has them; nothing connects before it starts.
    """
    config = file.config
    client = PipelinedClient(parse_address(config.redis.url), timeout_s=REDIS_TIMEOUT_S)
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
        background = BackgroundTasks()
        background.start("commit watch", committer.watch())
        background.start("file watch", watch_file())
        try:
            yield
        finally:
            await background.stop()
            await committer.close()
            await client.close()

    app = Starlette(
        routes=[
            Route("/livez", health.live),
            Route("/readyz", health.ready),
        ],
        exception_handlers={HTTPException: _plain_error},
        lifespan=lifespan,
    )
    # A redirect is an answer that no provider follows.
    app.router.redirect_slashes = False
    return app, webhooks


async def _plain_error(_request: Request, error: Exception) -> Response:
    """Answer what Starlette's router refuses (404, 405) in the words of `ingress.replies`."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    reply = NOT_FOUND if status == 404 else NOT_ALLOWED
    return Response(reply.body, status, headers, "application/json")
