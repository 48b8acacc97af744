"""The delivery client: one POST, one answer, and one deadline for everything together."""

import asyncio

from shared.http.answer import Answer, Caps
from shared.http.connection import Connection, Ended, Stale
from shared.http.dial import Dialler
from shared.http.endpoint import Endpoint
from shared.http.lookup import Lookups, Resolver
from shared.http.pool import Pool


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
        """Set the limits: the bytes that are read of an answer and of its heads, and kept of its body; how
        many connections may be idle, in all and for each endpoint, and for how long.
        """
        self._lookups = Lookups(resolver)
        self.dialler = Dialler(self._lookups, Caps(max_answer_bytes, max_head_bytes, keep_body_bytes))
        self._pool = Pool(
            max_idle=max_idle, max_idle_per_endpoint=max_idle_per_endpoint, max_idle_s=max_idle_s
        )
        self._closed = False

    async def post(self, endpoint: Endpoint, request: bytes, timeout_s: float) -> Answer:
        """Send a request that `endpoint.request` made, and return the target's final answer, whatever its
        status is.

        `timeout_s` covers look-up, connecting, TLS, sending and reading. A request may reach the target
        twice: if a kept connection turns out to be closed, it is sent once more on a new one.

        Raises: EgressError if no answer came; its `kind` says why.
        """
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def ended(result: Answer | Exception) -> None:
            if answered.done():
                return
            if isinstance(result, Exception):
                answered.set_exception(result)
            else:
                answered.set_result(result)

        exchange = self.begin(endpoint, request, timeout_s, ended)
        try:
            return await answered
        except asyncio.CancelledError:
            exchange.cancel()
            raise

    def begin(self, endpoint: Endpoint, request: bytes, timeout_s: float, ended: Ended) -> "Exchange":
        """Post as `post` does, and call `ended` with the answer, or with the error that `post` would raise.

        It is called once, later, unless the exchange is cancelled. Many exchanges at a time cost little, as
        no task waits.
        """
        if self._closed:
            raise RuntimeError("this client is closed")
        loop = asyncio.get_running_loop()
        now = loop.time()
        exchange = Exchange(self, loop, endpoint, request, now + timeout_s, ended)
        connection = self._pool.take(endpoint.pool_key, now)
        if connection is None:
            exchange.dial()
        else:
            exchange.send(connection)
        return exchange

    async def close(self) -> None:
        """Close the idle connections. Posts under way go on, and close their connections when they end."""
        self._closed = True
        self._lookups.close()
        for connection in self._pool.close():
            await connection.wait_lost()

    def give_back(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, connection: Connection) -> None:
        """Keep a connection for the next exchange, if it is reusable."""
        if connection.reusable:
            if self._closed:
                connection.abort()
            else:
                self._pool.give(endpoint.pool_key, connection, loop)


class Exchange:
    """One request under way. It is sent once more if the kept connection turns out to be closed.

    `resent` says that it was: the target may have read the request twice.
    """

    __slots__ = (
        "_connection",
        "_deadline",
        "_dialling",
        "_egress",
        "_ended",
        "_endpoint",
        "_loop",
        "_request",
        "resent",
    )

    def __init__(
        self,
        egress: Egress,
        loop: asyncio.AbstractEventLoop,
        endpoint: Endpoint,
        request: bytes,
        deadline: float,
        ended: Ended,
    ) -> None:
        """Make an exchange that has not begun; `deadline` is in the loop's time."""
        self._egress = egress
        self._loop = loop
        self._endpoint = endpoint
        self._request = request
        self._deadline = deadline
        self._ended = ended
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self.resent = False

    def send(self, connection: Connection) -> None:
        """Send over a connection of this exchange's own."""
        self._connection = connection
        try:
            connection.exchange(self._request, self._deadline, self._answered)
        except Exception:
            connection.abort()
            raise

    def dial(self) -> None:
        """Open a new connection, then send over it."""
        self._connection = None
        self._dialling = self._loop.create_task(self._dial())

    def cancel(self) -> None:
        """End it without calling `ended`. Its connection is closed."""
        if self._connection is not None:
            self._connection.abort()
        elif self._dialling is not None:
            self._dialling.cancel()

    async def _dial(self) -> None:
        try:
            self.send(await self._egress.dialler.open(self._endpoint, self._deadline))
        except Exception as error:  # any error: the caller waits for the end of this exchange
            self._ended(error)

    def _answered(self, result: Answer | Exception) -> None:
        if isinstance(result, Stale) and self._dialling is None:
            self.resent = True
            self.dial()
            return
        connection, self._connection = self._connection, None  # from now on it belongs to another exchange
        if connection is not None:
            self._egress.give_back(self._loop, self._endpoint, connection)
        self._ended(result)
