"""One process's connection to Redis: time limits, scripts, and errors translated to ours.

Nothing is retried here. A command whose reply was lost may have run, and only its caller knows whether a
repeat is harmless; redis-py's default of ten retries held a write for 58 s.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    NoPermissionError,
    NoScriptError,
    RedisError,
)

from shared.errors import StoreDenied, StoreUnavailable
from shared.store.address import RedisAddress
from shared.store.connection import ScriptConnection, connect, packed

WAIT_REPLICAS_MS = 500
TOO_FEW_REPLICAS = "too few replicas"

NamedCall = tuple[str, Sequence[str], Sequence[str | bytes | int | float]]
"""A script's name, its keys and its arguments."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn whatever redis-py raises into StoreUnavailable, with Redis's own first words as the reason."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise unavailable(error) from None


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return our error for one of redis-py's."""
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return StoreDenied(f"Redis refuses the user or the password of redis.url ({reason(error)})")
    if isinstance(error, NoPermissionError):
        return StoreDenied(f"Redis does not permit a command to the user of redis.url ({reason(error)})")
    return StoreUnavailable(reason(error))


def reason(error: BaseException) -> str:
    """Return an error of redis-py as one line, without our addresses and without arguments."""
    cause = error.__context__ or error
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"  # redis-py and asyncio each name the address again
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text[:120]}".rstrip(": ")


_INCLUDE = re.compile(r"^-- include: (\w+)\.lua$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """Return `scripts/<name>.lua`, with the text of the scripts that it includes in their places."""
    text = (files("shared.store") / "scripts" / f"{name}.lua").read_text()
    return _INCLUDE.sub(lambda line: source(line[1]), text)


def enough(replies: list[Any], replicas: int) -> list[Any]:
    """Return replies without WAIT's at their end, if replicas were waited for. Raises: StoreUnavailable."""
    if replicas:
        confirmed = replies.pop()
        if isinstance(confirmed, Exception) or confirmed < replicas:
            count = 0 if isinstance(confirmed, Exception) else confirmed
            raise StoreUnavailable(f"{TOO_FEW_REPLICAS}: {count} of {replicas} confirmed a write in time")
    return replies


class BlockingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the master that Sentinel names; if all are in use, a command waits for one.

    It only joins two documented classes of redis-py: one finds the master by Sentinel, the other waits, and
    no class does both. Without waiting, a burst of commands opens hundreds of connections: each asks Sentinel
    for the master, and redis-py refuses more than 100. tests/integration/test_redis_releases.py shows that
    the two fit together.
    """


class RedisClient:
    """Runs scripts over one connection; `redis` runs all other commands, over redis-py's pool.

    If that connection breaks, all scripts under way fail: they must not be sent to another server that
    answers next. The client belongs to one event loop.
    """

    def __init__(self, address: RedisAddress, *, timeout_s: float) -> None:
        """`timeout_s` bounds scripts, connecting included, and each step of the other commands."""
        options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # replies as the scripts and this package read them, on 6.2 and on 7
        }
        self.keys = address.keys
        self._address = address
        self._timeout_s = timeout_s
        self._sentinel: Sentinel | None = None
        if address.sentinels:
            login = {"username": address.username, "password": address.password}
            self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
                list(address.sentinels), sentinel_kwargs={**options}, **options, **login
            )
            self.redis: Redis = self._sentinel.master_for(
                address.master, connection_pool_class=BlockingSentinelPool, timeout=timeout_s, db=address.db
            )
        else:
            pool = BlockingConnectionPool.from_url(address.url, timeout=timeout_s, **options, **address.tls)
            self.redis = Redis.from_pool(pool)
        self._scripts: dict[str, AsyncScript] = {}
        self._connection: ScriptConnection | None = None
        self._connecting = asyncio.Lock()

    def script(self, name: str) -> AsyncScript:
        """Return `scripts/<name>.lua`; redis-py loads it again if Redis has forgotten it."""
        if name not in self._scripts:
            self._scripts[name] = self.redis.register_script(source(name))
        return self._scripts[name]

    async def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int | float]) -> Any:
        """Run a script. Raises: StoreUnavailable."""
        [reply] = await self.run_each([(name, keys, args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_each(self, calls: Sequence[NamedCall], *, replicas: int = 0) -> list[Any]:
        """Run scripts in one round trip, each by itself; an error stands in its reply's place.

        Raises: StoreUnavailable if the connection broke, so that nothing is known of any; and if fewer than
        `replicas` confirmed the writes in time.
        """
        calls = self._prefixed(calls)
        with translated():
            replies = await self._evaluate(calls, replicas)
            unknown = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                # Redis was restarted and knows no scripts: it has run none of these.
                for name in {calls[number][0] for number in unknown}:
                    await self.redis.script_load(source(name))
                again = await self._evaluate([calls[number] for number in unknown], replicas)
                for number, reply in zip(unknown, again, strict=True):
                    replies[number] = reply
        return [unavailable(reply) if isinstance(reply, RedisError) else reply for reply in replies]

    async def run_as_one(self, calls: Sequence[NamedCall]) -> list[Any]:
        """Run scripts in one transaction. Raises: StoreUnavailable; also if one of them fails."""
        with translated():
            pipe = self.redis.pipeline(transaction=True)
            for name, keys, args in self._prefixed(calls):
                await self.script(name)(keys=keys, args=args, client=pipe)
            replies: list[Any] = await pipe.execute()
        return replies

    def _prefixed(self, calls: Sequence[NamedCall]) -> list[NamedCall]:
        """Return the calls, each with the gateway's prefix as its last key."""
        return [(name, [*keys, self.keys.prefix], args) for name, keys, args in calls]

    async def _evaluate(self, calls: Sequence[NamedCall], replicas: int) -> list[Any]:
        commands = [
            packed("EVALSHA", self.script(name).sha, len(keys), *keys, *args) for name, keys, args in calls
        ]
        if replicas:
            commands.append(packed("WAIT", replicas, WAIT_REPLICAS_MS))
        async with asyncio.timeout(self._timeout_s):
            connection = self._connection
            if connection is None or connection.broken:
                connection = await self._connected()
            return enough(await connection.ask(commands), replicas)

    async def _connected(self) -> ScriptConnection:
        async with self._connecting:
            if self._connection is None or self._connection.broken:
                self._connection = await connect(self._address, self._sentinel)
            return self._connection

    async def close(self) -> None:
        """Close every connection."""
        if self._connection is not None:
            self._connection.break_off()
        await self.redis.aclose()
        for sentinel in self._sentinel.sentinels if self._sentinel else []:
            await sentinel.aclose()
