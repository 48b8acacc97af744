"""The Starlette application: routes and lifespan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingress.commit import Committer
from ingress.health import Health
from ingress.limits import AddressList
from ingress.webhooks import NOT_ALLOWED, NOT_FOUND, Source, Webhooks
from shared.config import Config
from shared.store.address import parse_address
from shared.store.client import RedisClient

# A provider gets its 503 within two seconds: connect and reply have one each.
REDIS_TIMEOUT_S = 1.0


def create_app(config: Config) -> Starlette:
    """Return the application. Nothing connects before its lifespan starts."""
    client = RedisClient(parse_address(config.redis.url), timeout_s=REDIS_TIMEOUT_S)
    committer = Committer(client, config)
    health = Health(client, committer)
    webhooks = Webhooks(
        {settings.name: Source(settings) for settings in config.sources},
        committer,
        max_body_bytes=config.ingress.max_body_bytes,
        trusted_proxies=AddressList(config.ingress.trusted_proxies),
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await committer.check()
        watching = asyncio.create_task(committer.watch())
        try:
            yield
        finally:
            watching.cancel()
            await committer.close()
            await client.close()

    app = Starlette(
        routes=[
            Route("/webhooks/{source}", webhooks),
            Route("/webhooks/{source}/{token}", webhooks),
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
