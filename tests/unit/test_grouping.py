"""Group commit: what waits together goes together, in order, and each gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.grouping import GroupCommit


class Store:
    """Commits when it is let, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.fail = False

    async def commit(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.fail:
            raise ConnectionError("gone")
        return [ValueError(str(item)) if item < 0 else item * 10 for item in items]


def test_the_first_goes_at_once_and_what_comes_meanwhile_goes_together() -> None:
    async def main() -> None:
        store = Store()
        group = GroupCommit(store.commit, limit=3)
        futures = [group.add(1)]
        await asyncio.sleep(0)
        futures += [group.add(item) for item in (2, 3, 4, 5)]
        store.gate.set()
        assert await asyncio.gather(*futures) == [10, 20, 30, 40, 50]
        assert store.batches == [[1], [2, 3, 4], [5]], "in order, and no more than the limit at once"
        assert await group.add(6) == 60, "an idle group takes up again"

    asyncio.run(main())


def test_one_item_s_failure_is_its_own() -> None:
    async def main() -> None:
        store = Store()
        store.gate.set()
        group = GroupCommit(store.commit, limit=10)
        good, bad = group.add(1), group.add(-1)
        assert await good == 10
        with pytest.raises(ValueError, match="-1"):
            await bad

    asyncio.run(main())


def test_a_failed_commit_fails_what_waits_behind_it_too() -> None:
    async def main() -> None:
        store = Store()
        store.fail = True
        group = GroupCommit(store.commit, limit=1)
        futures = [group.add(1), group.add(2)]
        store.gate.set()
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionError] * 2
        assert store.batches == [[1]], "the second did not wait for a failure of its own"
        store.fail = False
        assert await group.add(3) == 30

    asyncio.run(main())


def test_who_stops_waiting_does_not_disturb_the_others() -> None:
    async def main() -> None:
        store = Store()
        group = GroupCommit(store.commit, limit=10)
        gone, stays = group.add(1), group.add(2)
        gone.cancel()
        store.gate.set()
        assert await stays == 20
        await group.flush()

    asyncio.run(main())
