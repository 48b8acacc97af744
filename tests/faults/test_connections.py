"""Case 13: the way to Redis is cut before or after a command ran, is slow, or drips."""

import time
from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.conftest import RedisServer
from tests.faults.proxy import Proxy, script
from tests.faults.stage import ONE, TWO, Stage
from tests.faults.watched import Providers, Watched, body
from tests.waiting import wait_for

COMMANDS = {
    "commit": script("put"),
    "take": script("take_in_turn"),
    "admit": script("admit"),
    "claim": script("claim"),
    "settle": script("settle"),
    "sweep": script("waiting"),
}


def clients(stage: Stage) -> set[str]:
    """Return the ids of Redis's connections: one that ended is gone from there once all it said was done."""
    return {client["id"] for client in stage.gateway.redis.client_list()}


@pytest.mark.case(n=13)
@pytest.mark.parametrize("ran", [False, True], ids=["before", "after"])
def test_a_cut_at_any_command_comes_to_the_same_end(ran: bool, stage: Stage) -> None:
    """Each event is delivered once to each target, whatever was cut; only a commit that ran leaves a copy."""
    for number, (name, command) in enumerate(COMMANDS.items()):
        connected = clients(stage)
        stage.proxy.cut(command, ran=ran)
        event = body()
        id = stage.gateway.post("trustshare", event).id
        wait_for(lambda number=number: stage.proxy.cuts_made == number + 1, f"a cut of {name}")  # type: ignore[misc]
        if ran and name in ("admit", "claim"):
            # Whoever claimed, right behind the admission maybe, does not know of it; a lease takes a minute.
            wait_for(lambda before=connected: before - clients(stage), "Redis to have done all it was told")  # type: ignore[misc]
            stage.end_leases()
        stage.gateway.drain()
        assert stage.copies() == int(ran), name
        of = stage.gateway.redis.hget(f"hr:duplicate:{id}", "of")
        first = of.decode() if isinstance(of, bytes) else id
        assert stage.sink.counts(ONE)[first] == stage.sink.counts(TWO)[first] == 1, name
    assert stage.gateway.redis.zcard("hr:quarantine") == 0


@pytest.mark.case(n=13)
def test_cuts_at_random_under_load_lose_nothing(
    folder: Path, sink: Sink, redis_url: str, redis_server: RedisServer
) -> None:
    proxy = Proxy(redis_server.socket)
    gateway = Watched(
        folder,
        target("all", sink.port, timeout='"2s"'),
        sink,
        redis_url=proxy.url,
        redis=redis_server.client(),
        inside="impatient",
    )
    with gateway, Providers(gateway, pause_s=0.02) as load:
        proxy.cut_at_random(seed=20261121, chance=0.03)
        wait_for(lambda: proxy.cuts_made > 20 and load.accepted > 20, "cuts and receipts", within_s=60)
        proxy.cut_at_random(seed=0, chance=0)
    proxy.close()


@pytest.mark.case(n=13)
def test_a_slow_and_dripping_way_costs_time_and_nothing_else(
    folder: Path, sink: Sink, redis_url: str, redis_server: RedisServer
) -> None:
    proxy = Proxy(redis_server.socket)
    gateway = Watched(
        folder, target("all", sink.port), sink, redis_url=proxy.url, redis=redis_server.client()
    )
    with gateway:
        proxy.delay_s, proxy.drip_bytes = 0.1, 8
        ids = [gateway.post("trustshare", body()).id for _ in range(10)]
        sink.wait_for("all", 10, within_s=40)
        assert set(sink.counts("all")) == set(ids)
        # Slower than anyone waits: a bounded 503, and all is well once it is over.
        proxy.delay_s = 3
        started = time.monotonic()
        assert gateway.post("trustshare", body(), once=True).status == 503
        assert time.monotonic() - started < 9
        proxy.delay_s, proxy.drip_bytes = 0, 0
        wait_for(gateway.ready, "to be ready again", within_s=30)
        gateway.post("trustshare", body())
    proxy.close()
