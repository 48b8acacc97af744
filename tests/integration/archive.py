"""A store with an archive: what was filled in is moved there, and read from both as operators do."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shared.archive.database import Database
from shared.archive.reader import Reader
from shared.archive.search import Search
from shared.operations.archiving import Archiving
from shared.operations.dead_letters import Chosen, DeadLetters
from shared.operations.events import Events
from shared.operations.replays import Replays, Selection
from shared.secrets import Secret
from shared.store.clock import now_ms
from shared.store.due import End
from shared.store.views import DeliveryView
from shared.store.walk import ALWAYS
from tests.integration.filled import PAID, Filled, with_redis


class Stage:
    """A store, its archive, and what an operator sees of both."""

    def __init__(self, store: Filled, url: str, keys: Sequence[Secret] = ()) -> None:
        self.store = store
        self.redis: Any = store.client.redis
        self.url = url
        self.reader = Reader(Database(url, keys))
        self.archiving = Archiving(store.client, url, keys)
        self.events = Events(store.client, None, self.reader)

    async def done(self, *targets: str, **fields: Any) -> str:
        """Take a payment all the way to targets that take it at once."""
        [id] = await self.store.receive(PAID | fields)
        await self.store.admit(*targets)
        for target in targets:
            await self.store.settle(target, End.DONE, status=200)
        return id

    async def move(self) -> int:
        """Move all that has finished. Returns how many events and copies that were."""
        moved, before = 0, await now_ms(self.store.client) + 1
        while (part := await self.archiving.move(before)).more:
            moved += part.count
        return moved

    async def listed(self, limit: int = 100, before: str | None = None, **wanted: Any) -> list[str]:
        """Return the ids of the events that are searched for, newest first."""
        return [view.id for view in await self.events.events(Search(**wanted), limit, before)]

    @contextmanager
    def with_keys(self, *keys: Secret) -> Iterator[None]:
        """Have other processes take over, whose configuration has these keys."""
        before = self.reader, self.archiving, self.events
        self.reader = Reader(Database(self.url, keys))
        self.archiving = Archiving(self.store.client, self.url, keys)
        self.events = Events(self.store.client, None, self.reader)
        try:
            yield
        finally:
            self.archiving.close()
            self.reader.close()
            self.reader, self.archiving, self.events = before

    async def shown(self, id: str) -> list[Any]:
        """Return all that anybody can be told of an event."""
        kept = await self.events.find(id, ["trustshare"])
        assert kept is not None
        [listed] = [view for view in await self.events.events(Search(), 100) if view.id == id]
        assert listed == kept
        transaction = await self.events.transaction("trustshare", "tx-1")
        return [
            kept,
            await self.events.payload(kept),
            await self.events.deliveries(id, answers=True),
            [event for event in transaction if event.id == id],
        ]

    async def deliveries(self, id: str) -> list[DeliveryView]:
        """Return where an event went."""
        found = await self.events.deliveries(id)
        assert found is not None
        return found

    async def replay(self, target: str, *ids: str, **selection: Any) -> int:
        """Send events to a target again. Returns how many were sent."""
        replays = Replays(self.store.client, [target], None, self.reader)
        chosen = Selection(ALWAYS, events=ids, to=target, **selection)
        plan = await replays.plan(chosen)
        replayed = await replays.run(chosen, plan, user="operator")
        assert replayed.deliveries == {name: count for name, count in plan.deliveries.items() if count}
        return replayed.total

    async def discard(self, target: str, *ids: str) -> None:
        """Discard dead letters of a target."""
        letters = DeadLetters(self.store.client, None)
        chosen = Chosen((target,), ALWAYS, events=ids)
        planned = await letters.count(chosen)
        await letters.discard(chosen, planned, user="operator", done=lambda _: None)

    async def keys(self) -> set[str]:
        """Return the names of all keys in Redis that belong to one event or copy."""
        found = [key.decode() for key in await self.redis.keys("hr:*")]
        return {key for key in found if "evt_" in key or key.startswith(("hr:transaction:", "hr:packed"))}


def on_stage(
    redis_url: str,
    archive_url: str,
    play: Callable[[Stage], Awaitable[None]],
    *,
    keys: Sequence[Secret] = (),
) -> None:
    """Run a play with a store and an archive, and close both."""

    async def body(store: Filled) -> None:
        stage = Stage(store, archive_url, keys)
        try:
            await play(stage)
        finally:
            stage.archiving.close()
            stage.reader.close()

    with_redis(redis_url, body)


def paid(number: int, **fields: Any) -> dict[str, Any]:
    """Return the fields by which a payment is another one."""
    return {"paymentToken": f"pay-{number}", "token": f"tx-{number}", **fields}
