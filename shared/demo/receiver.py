"""`python -m shared.demo.receiver`: the demo's receiver. It checks every signature, and answers 200.

`/flaky` answers 503 to the first attempt of each event, so that the demo shows a retry.
"""

import argparse
import socket
import time
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shared.config.file import read_config
from shared.delivery.signing import SigningKey, signing_key, verify
from shared.process import logs

log = structlog.get_logger()


def create_app(keys: dict[str, list[SigningKey]]) -> Starlette:
    """Return the receiver. `keys` holds the signing keys for each path."""
    refused_once: set[str] = set()

    async def receive(request: Request) -> Response:
        body = await request.body()
        name = request.path_params["name"]
        id = request.headers.get("webhook-id", "")
        stamp = request.headers.get("webhook-timestamp", "")
        signatures = request.headers.get("webhook-signature", "").encode()
        known = keys.get(name, [])
        if not stamp.isdecimal() or not verify(known, id, int(stamp), body, signatures, now=time.time()):
            log.error("bad signature", target=name, event_id=id)
            return PlainTextResponse("bad signature", 401)
        if name == "flaky" and id not in refused_once:
            refused_once.add(id)
            return PlainTextResponse("not now", 503)
        return PlainTextResponse("thank you")

    return Starlette(routes=[Route("/{name}", receive, methods=["POST"])])


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m shared.demo.receiver")
    parser.add_argument("--config", required=True)
    parser.add_argument("--fd", type=int, required=True)
    options = parser.parse_args()
    logs.configure("receiver")
    config = read_config(Path(options.config))
    keys = {target.name: [signing_key(secret) for secret in target.secret] for target in config.targets}
    server = uvicorn.Server(
        uvicorn.Config(create_app(keys), access_log=False, log_config=None, lifespan="off", ws="none")
    )
    server.run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
