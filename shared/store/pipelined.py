"""A client whose scripts follow each other on one connection, without waiting for the replies before.

Redis runs them in the order in which they were called, but for those that it has to be given first. The
connection is asyncio's, and hiredis reads and packs: redis-py's own gives each caller a connection to itself,
has several tasks and timers for each command, and packs what it sends in Python.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis import exceptions

from shared.errors import StoreUnavailable
from shared.store.address import RedisAddress
from shared.store.client import WAIT_REPLICAS_MS, NamedCall, RedisClient, enough

# What redis-py makes of an error by its first word. The word goes, as there.
_ERRORS: dict[str, type[exceptions.RedisError]] = {
    "ERR": exceptions.ResponseError,
    "NOSCRIPT": exceptions.NoScriptError,
    "OOM": exceptions.OutOfMemoryError,
    "READONLY": exceptions.ReadOnlyError,
    "LOADING": exceptions.BusyLoadingError,
    "NOAUTH": exceptions.AuthenticationError,
    "WRONGPASS": exceptions.AuthenticationError,
    "NOPERM": exceptions.NoPermissionError,
}


class PipelinedClient(RedisClient):
    """A RedisClient whose scripts share one connection.

    When one fails, those that are under way fail with it: they must not be sent to whatever answers next.
    """

    def __init__(self, address: RedisAddress, *, timeout_s: float) -> None:
        """`timeout_s` bounds each of these, with its waiting, and each reply of the other commands."""
        super().__init__(address, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._connection: ScriptConnection | None = None
        self._connecting = asyncio.Lock()

    async def _evaluate(self, calls: Sequence[NamedCall], replicas: int) -> list[Any]:
        commands = [
            _packed("EVALSHA", self.script(name).sha, len(keys), *keys, *args) for name, keys, args in calls
        ]
        if replicas:
            commands.append(_packed("WAIT", replicas, WAIT_REPLICAS_MS))
        async with asyncio.timeout(self._timeout_s):
            connection = self._connection
            if connection is None or connection.broken:
                connection = await self._connected()
            replies = await connection.ask(commands)
        if any(isinstance(reply, exceptions.ReadOnlyError) for reply in replies):
            connection.break_off()  # a master no more: the next is looked for
        return enough(replies, replicas)

    async def _connected(self) -> "ScriptConnection":
        async with self._connecting:
            if self._connection is None or self._connection.broken:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> "ScriptConnection":
        loop = asyncio.get_running_loop()
        where: dict[str, Any] = self.redis.get_connection_kwargs()  # type: ignore[no-untyped-call]
        if "path" in where:
            _, connection = await loop.create_unix_connection(ScriptConnection, where["path"])
        else:
            host, port = where.get("host", "localhost"), where.get("port", 6379)
            if self.address.sentinels:
                host, port = await self.sentinel.discover_master(self.address.master)
            tls = _tls(where) if self.address.url.startswith("rediss:") else None
            _, connection = await loop.create_connection(ScriptConnection, host, port, ssl=tls)
        user, password = where.get("username"), where.get("password")
        greeting = [_packed("AUTH", *([user] if user else []), password)] if password else []
        greeting += [_packed("SELECT", where["db"])] if where.get("db") else []
        for reply in await connection.ask(greeting) if greeting else []:
            if isinstance(reply, Exception):
                connection.break_off()
                raise reply
        return connection

    async def close(self) -> None:
        """Close every connection."""
        if self._connection is not None:
            self._connection.break_off()
        await super().close()


class ScriptConnection(asyncio.Protocol):
    """One connection to Redis. Replies go to whoever said the commands, in their order."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.broken = False
        self._reader = hiredis.Reader(replyError=_error)
        self._waiting: deque[tuple[asyncio.Future[list[Any]], list[Any], int]] = deque()

    async def ask(self, commands: Sequence[bytes]) -> list[Any]:
        """Say commands, and return their replies; an error stands in its reply's place.

        Raises: StoreUnavailable if the connection breaks. Whoever gives up waiting breaks it.
        """
        if self.broken:
            raise StoreUnavailable("the connection to Redis broke")
        told: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((told, [], len(commands)))
        self._transport.writelines(commands)
        try:
            return await told
        except asyncio.CancelledError:
            self.break_off()
            raise

    def break_off(self) -> None:
        """Close at once; all who wait are told."""
        self._transport.abort()
        self._fail()

    def _fail(self) -> None:
        self.broken = True
        for told, _, _ in self._waiting:
            if not told.done():
                told.set_exception(StoreUnavailable("the connection to Redis broke"))
        self._waiting.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait."""
        self._fail()

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are whole. What nobody asked for must not be the next one's reply."""
        self._reader.feed(data)
        self._hand_out()
        if not self._waiting and self._reader.has_data():
            self.break_off()

    def _hand_out(self) -> None:
        while self._waiting:
            told, replies, count = self._waiting[0]
            while len(replies) < count:
                reply = self._reader.gets()
                if reply is False:  # not whole yet
                    return
                replies.append(reply)
            self._waiting.popleft()
            if not told.done():
                told.set_result(replies)


def _packed(*words: str | bytes | int | float) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


def _error(text: str) -> exceptions.RedisError:
    word, _, rest = text.partition(" ")
    kind = _ERRORS.get(word)
    return kind(rest) if kind else exceptions.ResponseError(text)


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    """Return what the options of a `rediss://` URL ask for, with redis-py's names and defaults."""
    context = ssl.create_default_context(
        cafile=options.get("ssl_ca_certs"),
        capath=options.get("ssl_ca_path"),
        cadata=options.get("ssl_ca_data"),
    )
    if options.get("ssl_cert_reqs", "required") == "none":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.check_hostname = options.get("ssl_check_hostname", True)
    if options.get("ssl_certfile"):
        context.load_cert_chain(
            options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password")
        )
    return context
