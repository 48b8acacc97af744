"""A client whose scripts follow each other on one connection, without waiting for the replies before.

Redis runs them in the order in which they were called, but for those that it has to be given first.
redis-py's pool gives each caller a connection to itself, and has a task and timers for each command.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.exceptions import ResponseError

from shared.errors import StoreUnavailable
from shared.store.address import RedisAddress
from shared.store.client import WAIT_REPLICAS_MS, NamedCall, RedisClient, enough


class PipelinedClient(RedisClient):
    """A RedisClient whose `run_many` and `run_each` share one connection.

    When one fails, those that are under way fail with it: they must not be sent to whatever answers next.
    """

    def __init__(self, address: RedisAddress, *, timeout_s: float) -> None:
        """`timeout_s` bounds each of these, with its waiting, and each reply of the other commands."""
        super().__init__(address, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._sending, self._reading = asyncio.Lock(), asyncio.Lock()
        self._under_way = 0
        self._failures = 0

    async def _evaluate(self, calls: Sequence[NamedCall], replicas: int) -> list[Any]:
        commands = [
            _packed("EVALSHA", self.script(name).sha, len(keys), *keys, *args) for name, keys, args in calls
        ]
        if replicas:
            commands.append(_packed("WAIT", replicas, WAIT_REPLICAS_MS))
        async with asyncio.timeout(self._timeout_s):
            return enough(await self._speak(commands), replicas)

    async def _speak(self, commands: Sequence[bytes]) -> list[Any]:
        before = self._failures
        self._under_way += 1
        try:
            async with self._sending:
                self._insist_that_none_failed_since(before)
                connection = await self._connected()
                await connection.send_packed_command(commands, check_health=False)
            # Locks are given in the order in which they were asked for: each reads its own replies.
            async with self._reading:
                self._insist_that_none_failed_since(before)
                return [await _reply(connection) for _ in commands]
        except BaseException:  # a caller that gave up leaves replies unread, too
            if before == self._failures:
                self._failures += 1
                await self._disconnect()
            raise
        finally:
            self._under_way -= 1

    def _insist_that_none_failed_since(self, before: int) -> None:
        if before != self._failures:
            raise StoreUnavailable("the connection to Redis broke")

    async def _connected(self) -> Any:
        # Where nothing is awaited there is nothing to read but the end.
        if self._connection is not None and self._under_way == 1 and await self._connection.can_read():
            await self._disconnect()
        if self._connection is None:
            connection = self.redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            await connection.connect()
            connection.socket_timeout = None
            self._connection = connection
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close every connection."""
        await self._disconnect()
        await super().close()


def _packed(*words: str | bytes | int | float) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
