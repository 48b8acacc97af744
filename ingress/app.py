"""The ASGI application: a route for webhooks, health, and the lifespan of what they need.

`headrace ingress` serves it with `ingress.server.serve`. Any ASGI server can: `uvicorn --factory
ingress.app:create_app`, with the configuration in `$HEADRACE_CONFIG`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.acceptance import Acceptance
from ingress.commit import Committer
from ingress.server.gate import Gate
from ingress.webhooks import NOT_ALLOWED, NOT_FOUND, Webhooks
from shared.config.reload import ConfigFile
from shared.process import garbage, logs
from shared.process.background import BackgroundTasks

log = structlog.get_logger()

CONFIG_ENV = "HEADRACE_CONFIG"
LOOK_AT_FILE_S = 2.0


def create_app(file: ConfigFile | None = None, *, gate: Gate | None = None) -> Starlette:
    """Return the application. Nothing connects before its lifespan, which applies changes of `file` to it and
    to `gate`.

    Without `file` it reads the one that `$HEADRACE_CONFIG` names. `gate` has the limits on connections, if
    `ingress.server.serve` serves it. Raises: ConfigError.
    """
    if file is None:
        logs.configure("ingress")
        file = ConfigFile(Path(os.environ.get(CONFIG_ENV, "headrace.toml")))
    acceptance = Acceptance(file.config)
    committer = Committer(file.config, acceptance)
    webhooks = Webhooks(committer, file.config)

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        """Answer from the last look: health checks, however many, must not use what providers' requests need.

        A full inbox does not make a process unready while other sources are accepted: no other process would
        accept its events either. Such sources are counted and not named, and the reason is one word, since
        strangers may ask.
        """
        if refusal := acceptance.refusal:
            return JSONResponse({"status": "not ready", "reason": refusal.word}, 503)
        counts = {"full_inboxes": len(acceptance.full), "stranded_inboxes": acceptance.stranded}
        details: dict[str, int | str] = {name: count for name, count in counts.items() if count}
        if acceptance.archive_behind:
            details["archive"] = "behind"
        return JSONResponse({"status": "ready", **details})

    def reload(*, always: bool) -> None:
        if file.reload(always=always):
            webhooks.configure(file.config)
            committer.configure(file.config)
            acceptance.configure(file.config)
            if gate is not None:
                gate.configure(file.config.ingress)

    async def watch_file() -> None:
        while True:
            await asyncio.sleep(LOOK_AT_FILE_S)
            reload(always=False)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if gate is None:
            log.warning("another ASGI server serves: ingress.max_connections and the like are not in force")
        # By default SIGHUP ends a process. Only the main thread can have handlers.
        with suppress(ValueError, RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, partial(reload, always=True))
        reload(always=True)  # a signal may have come while there was no handler
        await acceptance.check()
        garbage.settle()
        background = BackgroundTasks()
        background.start("commit watch", acceptance.watch())
        background.start("file watch", watch_file())
        try:
            yield
        finally:
            await background.stop()
            await committer.close()
            await acceptance.close()

    app = Starlette(
        routes=[
            Route("/webhooks/{source}", webhooks, methods=["POST"]),
            Route("/webhooks/{source}/{token}", webhooks, methods=["POST"]),
            Route("/livez", live),
            Route("/readyz", ready),
        ],
        exception_handlers={HTTPException: _plain_error},
        lifespan=lifespan,
    )
    # Providers do not follow redirects.
    app.router.redirect_slashes = False
    return app


async def _plain_error(_request: Request, error: Exception) -> Response:
    """Answer a request that no route takes: 404, or 405 for any method but POST, whatever the source's name
    is.
    """
    return NOT_ALLOWED if isinstance(error, HTTPException) and error.status_code == 405 else NOT_FOUND
