"""A worker's retention on a real Redis whose memory is nearly used up."""

from pathlib import Path

from structlog.testing import capture_logs

from shared.settings import Config, SourceSettings
from shared.store.upkeep import REMOVE_AT_ONCE
from tests.conftest import WITHOUT_LOG, RedisServer
from tests.integration.store import Store, used_memory, with_store
from workers.retention import Retention

COUNT = 5 * REMOVE_AT_ONCE + 1


async def receive(store: Store, count: int, *targets: str) -> None:
    await store.put(
        *(b'{"n":%d,"of":"%s"}' % (n, targets[0].encode() if targets else b"") for n in range(count))
    )
    while entries := await store.inbox.take("trustshare", "w"):
        await store.admit(entries, *targets)


def test_under_pressure_all_that_may_go_goes_and_what_holds_the_rest_is_said(
    folder: Path,
) -> None:
    async def check(store: Store) -> None:
        await receive(store, COUNT)
        await receive(store, 300, "away")
        used = await used_memory(store.redis)
        await store.redis.config_set("maxmemory", used // 2)  # it is more than full
        source = SourceSettings(name="trustshare", provider="trustshare")
        with capture_logs() as logs:
            retention = Retention(Config(sources=(source,)), "w", store.client)
            for _ in range(20):  # each for a bounded time, however slow the machine
                await retention.round()
        assert await store.redis.exists("hr:finished") == 0
        assert await store.redis.zcard("hr:open") == 300
        [said] = [line for line in logs if line["event"] == "memory is held by what retention may not remove"]
        assert (said["waiting"], said["inbox"], said["quarantined"]) == (300, 0, 0)
        assert 300 < said["dedupe_keys"] < 10 * COUNT, "about as many as there are events"

    with RedisServer(folder) as server:
        with_store(server.url, check)


def test_memory_that_is_relieved_leaves_what_is_finished_alone(folder: Path) -> None:
    async def check(store: Store) -> None:
        await receive(store, 3 * COUNT)  # enough to tell: what connections and scripts take does not count
        used = await used_memory(store.redis)
        await store.redis.config_set("maxmemory", int(used / 0.72))
        retention = Retention(Config(), "w", store.client)
        for _ in range(20):
            await retention.round()
        assert 0 < await store.redis.zcard("hr:finished") < 3 * COUNT
        assert await store.upkeep.memory_used() <= 0.70

    with RedisServer(folder, *WITHOUT_LOG) as server:
        with_store(server.url, check)
