"""`GET /livez`: the process answers. `GET /readyz`: it can take events, shown by a write to Redis."""

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from ingress.commit import Committer
from shared.errors import StoreUnavailable
from shared.store.client import RedisClient
from shared.store.upkeep import Upkeep

log = structlog.get_logger()


class Health:
    """The health endpoints."""

    def __init__(self, client: RedisClient, committer: Committer) -> None:
        self._upkeep = Upkeep(client)
        self._committer = committer

    async def live(self, _request: Request) -> Response:
        """Answer 200."""
        return _json(200, {"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Answer 200 where an event would be taken now, else 503 and why.

        A source whose inbox is full makes no process unready while others are taken from: no other process
        would take its events either. It is counted, not named: who asks here has shown no credentials.
        """
        refusal = self._committer.refusal
        if refusal is None:
            try:
                await self._upkeep.prove_writable()
            except StoreUnavailable as error:
                refusal = str(error)
        if refusal is None:
            full = len(self._committer.full)
            return _json(200, {"status": "ready", **({"full_inboxes": full} if full else {})})
        return _json(503, {"status": "not ready", "reason": refusal})


def _json(status: int, content: dict[str, str | int]) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
