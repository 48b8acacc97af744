"""Fault case 53: waiting for a target's breaker or pause neither ages a delivery nor ends it."""

from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

SHORT = "{ initial = '0.1s', factor = 2.0, max = '0.2s', attempts = 4, jitter = 0.0 }"
OPEN = "{ failures = 2, initial = '1h', max = '1h' }"
EVENTS = 12


def a_sweep_passed(gateway: Watched, sink: Sink) -> None:
    """Wait until a sweep that began after this call has looked at every target: it gives up for `off` last."""
    before = gateway.redis.zcard("hr:dead:off")
    gateway.post("trustshare", body())
    wait_for(lambda: gateway.redis.zcard("hr:dead:off") > before, "a sweep", within_s=60)


@pytest.mark.case(n=53)
def test_an_open_breaker_gives_up_nothing_however_short_the_schedule_is(folder: Path, sink: Sink) -> None:
    """At f85a50c these became dead letters of "0 attempts: the target is open", and so did their replays."""
    sink.answers["one"] = lambda *_: 500
    targets = target("one", sink.port, retry=SHORT, breaker=OPEN, max_age='"1s"', concurrency="2")
    with Watched(folder, targets + target("off", sink.port), sink) as gateway:
        assert gateway.command("targets", "disable", "off").returncode == 0
        ids = [gateway.post("trustshare", body()).id for _ in range(EVENTS)]
        redis = gateway.redis
        wait_for(lambda: redis.hexists("hr:target:one", "open_until"), "the breaker", within_s=60)
        wait_for(lambda: redis.zcard("hr:due:one") == EVENTS, "all to wait", within_s=60)
        # All of them have waited for half an hour.
        redis.zadd("hr:due:one", {id: int(id[4:15], 16) - 1_800_000 for id in ids})
        for _ in range(2):
            a_sweep_passed(gateway, sink)
        assert redis.zcard("hr:dead:one") == 0
        [row, _] = gateway.json("deliveries", ids[-1])["deliveries"]
        assert (row["state"], row["why"]["word"]) == ("waiting", "breaker")
        assert row["why"]["at"] is not None
        # A probe that fails is an attempt of its delivery, and no reason to call that one old.
        failed = {id: int(redis.hget(f"hr:event:{id}", "failed:one") or 0) for id in ids}
        redis.hset("hr:target:one", "open_until", 1)
        wait_for(
            lambda: any(int(redis.hget(f"hr:event:{id}", "failed:one") or 0) > failed[id] for id in ids),
            "the probe",
            within_s=60,
        )
        assert redis.zcard("hr:dead:one") == 0
        sink.answers["one"] = lambda *_: 200
        wait_for(lambda: redis.zcard("hr:leased:one") == 0, "the probe to be over", within_s=60)
        assert gateway.command("retry", "--target", "one", "--yes").returncode == 0
        wait_for(lambda: {*sink.counts("one")} >= {*ids}, "all to be delivered", within_s=60)


@pytest.mark.case(n=53)
def test_a_dead_letter_says_which_rule_ended_it(folder: Path, sink: Sink) -> None:
    sink.answers["one"] = lambda *_: 500
    targets = target("one", sink.port, retry="{ attempts = 1 }") + target("off", sink.port)
    with Watched(folder, targets, sink) as gateway:
        assert gateway.command("targets", "disable", "off", "--reason", "being moved").returncode == 0
        id = gateway.post("trustshare", body()).id
        for name in ("one", "off"):
            wait_for(lambda name=name: gateway.redis.zcard(f"hr:dead:{name}") == 1, name, within_s=60)  # type: ignore[misc]
        rows = {row["target"]: row for row in gateway.json("deliveries", id)["deliveries"]}
        whys = {name: (row["why"]["word"], row["why"]["text"]) for name, row in rows.items()}
        assert whys == {
            "one": ("attempts", "gave up after 1 attempt"),
            "off": ("disabled", "disabled: being moved"),
        }
        assert rows["off"]["attempts"] == [], "nothing was sent"
        shown = " ".join(gateway.command("dead-letters").stdout.split())
        for words in ("gave up after 1 attempt, last: HTTP 500", "disabled: being moved"):
            assert words in shown
