"""Case 14: clocks that are wrong, a worker's and Redis's own."""

import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.acceptance.gateway import SECRET, target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

RETRY = "{ initial = '0.5s', factor = 1.0, max = '0.5s', attempts = 4, jitter = 0.0 }"


def move(redis: Redis, key: str, by_s: int) -> None:
    """Move all times of a set."""
    members: list[Any] = redis.zrange(key, 0, -1)
    for member in members:
        redis.zincrby(key, by_s * 1000, member)


@pytest.mark.case(n=14)
@pytest.mark.parametrize("off_s", [-600, 600])
def test_clocks_of_processes_that_are_ten_minutes_off_have_no_effect(
    off_s: int, folder: Path, sink: Sink
) -> None:
    sink.answers["all"] = lambda _, before: 500 if before == 0 else 200
    targets = target("all", sink.port, retry=RETRY, max_age="'60s'")
    with Watched(folder, targets, sink, inside="clock", clock_s=off_s) as gateway:
        id = gateway.post("trustshare", body()).id
        first, second = sink.wait_for("all", 2)
        assert 0.4 < second.at - first.at < 10, "a retry is due by Redis's clock"
        for delivery in (first, second):
            delivery.verify(SECRET)  # a timestamp that is five minutes off would be refused
            assert abs(int(delivery.headers["webhook-timestamp"]) - time.time()) < 60
        assert abs(int(id[4:15], 16) / 1000 - time.time()) < 60
        gateway.drain()
        assert gateway.redis.zcard("hr:dead:all") == 0, "and its age too"


@pytest.mark.case(n=14)
@pytest.mark.parametrize("by_s", [-600, 600], ids=["back", "ahead"])
def test_redis_s_own_clock_that_jumps_loses_nothing(by_s: int, folder: Path, sink: Sink) -> None:
    """A jump of the clock by X is every time on record off by −X: so these are moved, with work under way.

    What is due is due that much later or at once, and leases run out early: a delivery may come twice.
    """
    sink.answers["all"] = lambda _, before: 500 if before == 0 else 200
    slow_first = {"seen": False}

    def slow(*_: object) -> int:
        if not slow_first["seen"]:
            slow_first["seen"] = True
            time.sleep(3)
        return 200

    sink.answers["slow"] = slow
    retry = "{ initial = '2s', factor = 1.0, max = '2s', attempts = 4, jitter = 0.0 }"
    targets = target("all", sink.port, retry=retry) + target("slow", sink.port, timeout='"5s"')
    with Watched(folder, targets, sink) as gateway:
        ids = {gateway.post("trustshare", body()).id for _ in range(5)}
        wait_for(lambda: gateway.redis.zcard("hr:due:all") == 5, "retries to wait")
        wait_for(lambda: gateway.redis.zcard("hr:leased:slow") == 1, "a delivery under way")
        for key in ("hr:due:all", "hr:leased:slow"):
            move(gateway.redis, key, -by_s)
        if by_s < 0:
            # The clock went back: what was due in two seconds is now due in ten minutes, and no sooner.
            time.sleep(4)
            assert len(sink.of("all")) == 5
            move(gateway.redis, "hr:due:all", by_s)
        gateway.drain()
        assert sink.counts("all").keys() == sink.counts("slow").keys() == ids
        assert gateway.redis.zcard("hr:dead:all") == gateway.redis.zcard("hr:dead:slow") == 0
