"""Group commit: what waits together goes together, in order, and each gets its own answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ingress.grouping import GroupCommit


class Store:
    """Commits when it is let, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gates: list[asyncio.Event] = []
        self.open = False
        self.fail = False

    async def commit(self, items: Sequence[int]) -> list[int | Exception]:
        gate = asyncio.Event()
        self.batches.append(list(items))
        self.gates.append(gate)
        if not self.open:
            await gate.wait()
        if self.fail:
            raise ConnectionError("gone")
        return [ValueError(str(item)) if item < 0 else item * 10 for item in items]

    async def let(self, number: int) -> None:
        """Let one commit end, and what it sets going begin."""
        self.gates[number].set()
        await turns()


class Told:
    """Adds items to a group, and remembers what came of them, in order."""

    def __init__(self, group: GroupCommit[int, int]) -> None:
        self.group = group
        self.results: list[object] = []

    def add(self, item: int) -> asyncio.Future[int]:
        future = self.group.add(item)
        future.add_done_callback(self.tell)
        return future

    def tell(self, future: asyncio.Future[int]) -> None:
        if not future.cancelled():
            error = future.exception()
            self.results.append(repr(error) if error else future.result())


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def grouped(
    test: Callable[[Store, GroupCommit[int, int], Told], Awaitable[None]],
    *,
    limit: int = 10,
    at_once: int = 1,
    worthwhile: int = 1,
) -> None:
    async def main() -> None:
        store = Store()
        group: GroupCommit[int, int] = GroupCommit(
            store.commit, limit=limit, at_once=at_once, worthwhile=worthwhile
        )
        await test(store, group, Told(group))

    asyncio.run(main())


def test_what_comes_in_one_turn_goes_together_and_what_comes_meanwhile_goes_next() -> None:
    async def test(store: Store, group: GroupCommit[int, int], told: Told) -> None:
        told.add(1)
        told.add(2)
        await turns()
        for item in (3, 4, 5, 6):
            told.add(item)
        await turns()
        assert store.batches == [[1, 2]]
        await store.let(0)
        assert told.results == [10, 20]
        store.open = True
        await store.let(1)
        assert store.batches == [[1, 2], [3, 4, 5], [6]], "in order, and no more than the limit at once"
        assert told.results == [10, 20, 30, 40, 50, 60]
        told.add(7)
        await group.flush()
        await turns()
        assert told.results[-1] == 70, "an idle group takes up again"

    grouped(test, limit=3)


def test_a_commit_goes_beside_another_once_it_is_worth_it() -> None:
    async def test(store: Store, group: GroupCommit[int, int], told: Told) -> None:
        told.add(1)
        await turns()
        told.add(2)
        await turns()
        assert store.batches == [[1]], "one alone waits for the one under way"
        told.add(3)
        await turns()
        for item in (4, 5, 6):
            told.add(item)
            await turns()
        assert store.batches == [[1], [2, 3], [4, 5]]
        for item in (7, 8):
            told.add(item)
            await turns()
        assert len(store.batches) == 3, "and no more than three are under way"
        await store.let(1)
        assert told.results == [20, 30], "each is told of when its own commit has ended"
        assert store.batches[3:] == [[6, 7, 8]]
        store.open = True
        for number in (0, 2, 3):
            await store.let(number)
        assert told.results == [20, 30, 10, 40, 50, 60, 70, 80]

    grouped(test, at_once=3, worthwhile=2)


def test_one_item_s_failure_is_its_own() -> None:
    async def test(store: Store, group: GroupCommit[int, int], told: Told) -> None:
        store.open = True
        told.add(1)
        told.add(-1)
        await group.flush()
        await turns()
        assert told.results == [10, "ValueError('-1')"]

    grouped(test)


def test_a_failed_commit_fails_what_waits_behind_it_too_and_not_what_is_under_way() -> None:
    async def test(store: Store, group: GroupCommit[int, int], told: Told) -> None:
        for item in (1, 2, 3):
            told.add(item)
        await turns()
        assert store.batches == [[1], [2]]
        store.fail = True
        await store.let(0)
        assert told.results == ["ConnectionError('gone')"] * 2, (
            "the third did not wait for a failure of its own"
        )
        store.fail = False
        await store.let(1)
        assert told.results[2:] == [20]
        store.open = True
        told.add(4)
        await group.flush()
        await turns()
        assert store.batches == [[1], [2], [4]]
        assert told.results[3:] == [40]

    grouped(test, limit=1, at_once=2)


def test_an_item_whose_caller_gave_up_is_committed_and_does_not_disturb_the_others() -> None:
    async def test(store: Store, group: GroupCommit[int, int], told: Told) -> None:
        given_up = told.add(1)
        told.add(2)
        await turns()
        given_up.cancel()
        await store.let(0)
        assert store.batches == [[1, 2]]
        assert told.results == [20]

    grouped(test)
