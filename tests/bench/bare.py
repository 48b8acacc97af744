"""`python -m tests.bench.bare PORT route|asgi`: what ingress is held against.

A Starlette `Route` that reads the body and answers 200, and a raw ASGI function that does the same, with
the settings of uvicorn that ingress has.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


async def endpoint(request: Request) -> Response:
    await request.body()
    return Response(b'{"id":"evt_0"}', media_type="application/json")


route = Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST"])])


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"14")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"id":"evt_0"}'})


if __name__ == "__main__":
    uvicorn.run(
        route if sys.argv[2] == "route" else asgi,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        backlog=2048,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        log_config=None,
    )
