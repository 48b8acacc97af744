"""One process's connection to Redis: time limits, scripts, and errors translated to ours.

Nothing is retried here. A command whose reply was lost may have run, and only its caller knows whether
saying it twice is harmless; redis-py's default of ten retries held a write for 58 s.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
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

WAIT_REPLICAS_MS = 500
TOO_FEW_REPLICAS = "too few replicas"

Call = tuple[Sequence[str], Sequence[str | bytes | int | float]]
"""The keys and the arguments of a script."""

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
    """Return what an error of redis-py says, in one line, without addresses of ours or arguments."""
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text[:120]}".rstrip(": ")


_INCLUDE = re.compile(r"^-- include: (\w+)\.lua$", re.MULTILINE)


@cache
def _source(name: str) -> str:
    """Return `scripts/<name>.lua`, with the text of the scripts that it includes in their places."""
    text = (files("shared.store") / "scripts" / f"{name}.lua").read_text()
    return _INCLUDE.sub(lambda line: _source(line[1]), text)


def enough(replies: list[Any], replicas: int) -> list[Any]:
    """Return replies without WAIT's at their end, if replicas were waited for. Raises: StoreUnavailable."""
    if replicas:
        confirmed = replies.pop()
        if isinstance(confirmed, Exception) or confirmed < replicas:
            count = 0 if isinstance(confirmed, Exception) else confirmed
            raise StoreUnavailable(f"{TOO_FEW_REPLICAS}: {count} of {replicas} confirmed a write in time")
    return replies


class RedisClient:
    """A connection pool and the scripts. Belongs to one event loop."""

    def __init__(self, address: RedisAddress, *, timeout_s: float) -> None:
        """`timeout_s` bounds connecting and every single reply."""
        options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # replies as the scripts and this package read them, on 6.2 and on 7
        }
        self.address = address
        self.keys = address.keys
        if address.sentinels:
            login = {"username": address.username, "password": address.password}
            self.sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
                list(address.sentinels), sentinel_kwargs={**options}, **options, **login
            )
            self.redis: Redis = self.sentinel.master_for(address.master, db=address.db)
        else:
            self.redis = Redis.from_url(address.url, **options)
        self._scripts: dict[str, AsyncScript] = {}

    def script(self, name: str) -> AsyncScript:
        """Return `scripts/<name>.lua`; redis-py loads it again where Redis has forgotten it."""
        if name not in self._scripts:
            self._scripts[name] = self.redis.register_script(_source(name))
        return self._scripts[name]

    async def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int | float]) -> Any:
        """Run a script. Raises: StoreUnavailable."""
        [reply] = await self.run_each([(name, keys, args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_many(self, name: str, calls: Sequence[Call], *, replicas: int = 0) -> list[Any]:
        """Run a script several times in one round trip; see `run_each`."""
        return await self.run_each([(name, *call) for call in calls], replicas=replicas)

    async def run_each(self, calls: Sequence[NamedCall], *, replicas: int = 0) -> list[Any]:
        """Run scripts in one round trip, each by itself; an error stands in its reply's place.

        Raises: StoreUnavailable where the connection broke: nothing is known of any; and where fewer than
        `replicas` confirmed in time what was written.
        """
        calls = self._prefixed(calls)
        with translated():
            replies = await self._evaluate(calls, replicas)
            unknown = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                # Redis was restarted and knows no scripts: it has run none of these.
                for name in {calls[number][0] for number in unknown}:
                    await self.redis.script_load(_source(name))
                again = await self._evaluate([calls[number] for number in unknown], replicas)
                for number, reply in zip(unknown, again, strict=True):
                    replies[number] = reply
        return [unavailable(reply) if isinstance(reply, RedisError) else reply for reply in replies]

    async def run_as_one(self, calls: Sequence[NamedCall]) -> list[Any]:
        """Run scripts in one transaction. Raises: StoreUnavailable; also where one of them fails."""
        with translated():
            pipe = self.redis.pipeline(transaction=True)
            for name, keys, args in self._prefixed(calls):
                await self.script(name)(keys=keys, args=args, client=pipe)
            replies: list[Any] = await pipe.execute()
        return replies

    def _prefixed(self, calls: Sequence[NamedCall]) -> list[NamedCall]:
        """Return calls with the prefix of all keys as each one's last key."""
        return [(name, [*keys, self.keys.prefix], args) for name, keys, args in calls]

    async def _evaluate(self, calls: Sequence[NamedCall], replicas: int) -> list[Any]:
        pipe = self.redis.pipeline(transaction=False)
        for name, keys, args in calls:
            pipe.evalsha(self.script(name).sha, len(keys), *keys, *args)
        if replicas:
            pipe.wait(replicas, WAIT_REPLICAS_MS)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return enough(replies, replicas)

    async def close(self) -> None:
        """Close every connection."""
        await self.redis.aclose()
