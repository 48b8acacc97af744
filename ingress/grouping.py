"""Group commit: items that wait at the same moment share one round trip.

There is no timer. A single item goes at once. While commits are under way the next batch gathers; it goes
when they have ended, or earlier, once it is worth a round trip of its own. If a commit fails as a whole, the
items that wait behind it fail with it: they would only wait as long again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Collects items of one event loop and commits them in batches, in the order they came."""

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        limit: int,
        at_once: int = 1,
        worthwhile: int = 1,
    ) -> None:
        """`commit` stores at most `limit` items and returns a result, or an exception, for each.

        It is begun in order, and up to `at_once` times before it has ended: beside another one for at least
        `worthwhile` items.
        """
        self._commit = commit
        self._limit = limit
        self._at_once = at_once
        self._worthwhile = worthwhile
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._beginning = False
        """Whether a commit has begun and not taken its batch yet."""

    def add(self, item: Item) -> "asyncio.Future[Result]":
        """Queue an item. Returns a future of its result."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._go()
        return future

    async def flush(self) -> None:
        """Wait until all items have been committed or refused."""
        while self._waiting or self._under_way:
            self._go()
            await asyncio.wait(self._under_way)

    def _go(self) -> None:
        """Begin a commit if one is due.

        It takes its batch in the next turn of the loop, so that items of this turn go along.
        """
        under_way = len(self._under_way)
        if self._beginning or not self._waiting or under_way >= self._at_once:
            return
        if under_way and len(self._waiting) < self._worthwhile:
            return
        self._beginning = True
        task = asyncio.get_running_loop().create_task(self._run())
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._go()

    async def _run(self) -> None:
        self._beginning = False
        batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
        self._go()
        if not batch:
            return  # a commit failed before this one began, and the waiting items with it
        results: Sequence[Result | Exception]
        try:
            results = await self._commit([item for item, _ in batch])
        except Exception as error:  # the waiting callers get it
            batch, self._waiting = [*batch, *self._waiting], []
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue  # the waiting caller was cancelled
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
