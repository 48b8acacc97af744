"""The delivery client: one POST, one answer, one wall-clock deadline over everything."""

import asyncio
from collections.abc import Sequence

from shared.egress.connection import Answer, Caps, Connection, Stale
from shared.egress.dial import Dialler
from shared.egress.endpoint import Endpoint
from shared.egress.lookup import Lookups, Resolver
from shared.egress.pool import Pool


class Egress:
    """POSTs to endpoints over kept-alive, checked connections; used from one event loop.

    It follows no redirect, reads no proxy setting from the environment, decodes no body.
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        max_answer_bytes: int = 65536,
        max_head_bytes: int = 32768,
        keep_body_bytes: int = 1024,
        max_idle: int = 512,
        max_idle_per_endpoint: int = 128,
        max_idle_s: float = 30.0,
    ) -> None:
        """Take the limits: bytes read of an answer and of its heads, bytes kept of its body, and
        idle connections over all, for each endpoint, and for how long.
        """
        self._lookups = Lookups(resolver)
        self._dialler = Dialler(self._lookups, Caps(max_answer_bytes, max_head_bytes, keep_body_bytes))
        self._pool = Pool(
            max_idle=max_idle, max_idle_per_endpoint=max_idle_per_endpoint, max_idle_s=max_idle_s
        )
        self._closed = False

    async def post(
        self, endpoint: Endpoint, headers: Sequence[tuple[bytes, bytes]], body: bytes, timeout_s: float
    ) -> Answer:
        """Send one request and return the target's final answer, whatever its status.

        `timeout_s` covers look-up, connecting, TLS, sending and reading. A request may reach the
        target twice: when a kept connection turns out closed, it is sent once more on a new one.

        Raises:
            EgressError: no answer; `kind` says why.
            ValueError: a header cannot be sent; nothing was.
        """
        if self._closed:
            raise RuntimeError("this client is closed")
        request = endpoint.request(headers, body)
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + timeout_s
        connection = self._pool.take(endpoint.pool_key, now)
        if connection is not None:
            try:
                return await self._exchange(loop, endpoint, connection, request, deadline)
            except Stale:
                pass  # one fresh try
        connection = await self._dialler.open(endpoint, deadline)
        return await self._exchange(loop, endpoint, connection, request, deadline)

    async def close(self) -> None:
        """Close what is idle. Posts under way run on, and close their connections when they end."""
        self._closed = True
        self._lookups.close()
        for connection in self._pool.close():
            await connection.wait_lost()

    async def _exchange(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoint: Endpoint,
        connection: Connection,
        request: bytes,
        deadline: float,
    ) -> Answer:
        try:
            answer = await connection.exchange(request, deadline)
        except BaseException:
            connection.abort()  # cancelled, or failed and closed already
            raise
        if connection.reusable:
            if self._closed:
                connection.abort()
            else:
                self._pool.give(endpoint.pool_key, connection, loop)
        return answer
