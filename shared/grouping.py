"""Group commit: what waits in the same moment shares one round trip.

There is no timer. While one commit is under way the next batch gathers; alone, an item goes at once.
When a commit fails as a whole, what waits behind it fails with it: it would only wait as long again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Collects items of one event loop and commits them in batches, in the order they came."""

    def __init__(
        self, commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]], *, limit: int
    ) -> None:
        """`commit` stores at most `limit` items and returns a result, or an exception, for each."""
        self._commit = commit
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item; the future ends with its result, or raises its exception, once it is committed."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return future

    async def flush(self) -> None:
        """Wait until all that was added has been committed or refused."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                results: Sequence[Result | Exception]
                try:
                    results = await self._commit([item for item, _ in batch])
                except Exception as error:  # it belongs to those who wait
                    batch, self._waiting = batch + self._waiting, []
                    results = [error] * len(batch)
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():
                        continue  # its owner was cancelled; the item is committed all the same
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._running = None
