"""Targets as an operator handles them: pause, disable, 410, the breaker, rates, a test event, removal."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.gateway import SECRET, Gateway, target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched
from tests.waiting import wait_for

RETRY = "{ initial = '0.1s', factor = 1.0, max = '0.1s', attempts = 3, jitter = 0.0 }"


def body() -> bytes:
    return json.dumps({"type": "dispute_raised", "from": "a", "to": "b", "token": uuid4().hex}).encode()


def stands(gateway: Gateway, name: str) -> dict[str, Any]:
    [found] = [row for row in gateway.json("targets")["targets"] if row["name"] == name]
    return dict(found)


def test_a_paused_target_keeps_collecting_and_the_others_go_on(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("one", sink.port) + target("two", sink.port)) as gateway:
        assert gateway.command("targets", "pause", "one").returncode == 0
        ids = [gateway.post("trustshare", body()).id for _ in range(3)]
        sink.wait_for("two", 3)
        paused = stands(gateway, "one")
        assert (paused["state"], paused["backlog"], paused["reason"]) == ("paused", 3, "paused by hand")
        assert stands(gateway, "two")["success_rate"] == 1.0
        assert sink.of("one") == []
        assert gateway.command("targets", "resume", "one").returncode == 0
        assert {delivery.id for delivery in sink.wait_for("one", 3)} == set(ids)
        assert gateway.command("targets", "pause", "nobody").returncode == 2
    assert len(sink.of("two")) == 3


def test_what_waits_for_a_paused_target_for_a_week_becomes_a_dead_letter(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("one", sink.port)) as gateway:
        gateway.command("targets", "pause", "one")
        old, new = (gateway.post("trustshare", body()).id for _ in range(2))
        wait_for(lambda: gateway.redis.zcard("hr:due:one") == 2, "both to wait")
        eight_days_ago = int(new[4:15], 16) - 8 * 86_400_000
        gateway.redis.zadd("hr:due:one", {old: eight_days_ago})
        gateway.redis.hset("hr:target:one", "state_since", eight_days_ago)
        wait_for(lambda: gateway.redis.zcard("hr:dead:one") == 1, "the old one to be given up")
        [letter] = gateway.json("dead-letters")["dead_letters"]
        assert (letter["id"], letter["last"]) == (old, None), "nothing was sent"
        assert letter["why"]["text"] == "paused for more than 7d"
        assert stands(gateway, "one")["backlog"] == 1


@pytest.mark.case(n=23)
def test_410_disables_the_target_until_it_is_enabled_and_its_dead_letters_replayed(
    folder: Path, sink: Sink
) -> None:
    """FAULTS 23: this event is dead-lettered, the target disabled, said loudly."""
    sink.answers["one"] = lambda *_: 410
    with Watched(folder, target("one", sink.port) + target("two", sink.port), sink) as gateway:
        gone = gateway.post("trustshare", body()).id
        wait_for(lambda: stands(gateway, "one")["state"] == "disabled", "the target to be disabled")
        later = gateway.post("trustshare", body()).id
        wait_for(lambda: stands(gateway, "one")["dead_letters"] == 2, "new events to become dead letters too")
        assert len(sink.of("one")) == 1, "one attempt, and no other"
        wait_for(lambda: gateway.lines("target disabled"), "it to be logged")
        assert gateway.lines("target disabled")[0]["level"] == "error"
        sink.answers["one"] = lambda *_: 200
        assert gateway.command("targets", "enable", "one").returncode == 0
        assert gateway.command("replay", "--dead-letters", "one", "--yes").returncode == 0
        wait_for(lambda: sink.counts("one").keys() == {gone, later}, "both to be delivered")
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "all to be finished")
    assert len(sink.of("two")) == 2


def test_the_breaker_spares_a_failing_target_and_closes_by_one_probe(folder: Path, sink: Sink) -> None:
    sink.answers["one"] = lambda *_: 500
    retry = "{ initial = '0.1s', factor = 1.0, max = '0.1s', attempts = 50, jitter = 0.0 }"
    breaker = "{ failures = 4, initial = '1s', max = '1s' }"
    with Gateway(folder, target("one", sink.port, retry=retry, breaker=breaker, concurrency="1")) as gateway:
        ids = {gateway.post("trustshare", body()).id for _ in range(5)}
        wait_for(lambda: stands(gateway, "one")["breaker"] != "closed", "the breaker to open")
        before = len(sink.of("one"))
        started = time.monotonic()
        time.sleep(2.5)
        probes = len(sink.of("one")) - before
        # Without a breaker there would be an attempt at least each 0.1 s. With it, one a second.
        assert probes <= (time.monotonic() - started) + 1
        sink.answers["one"] = lambda *_: 200
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "all to be delivered")
        assert stands(gateway, "one")["breaker"] == "closed"
        assert sink.counts("one").keys() == ids
        wait_for(
            lambda: gateway.lines("breaker opened") and gateway.lines("breaker closed"), "both to be logged"
        )


def test_a_rate_holds_fleet_wide_and_costs_no_attempt(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("one", sink.port, rate='"5/s"'), workers=2) as gateway:
        ids = [gateway.post("trustshare", body()).id for _ in range(15)]
        deliveries = sink.wait_for("one", 15, within_s=30)
        took = deliveries[-1].at - deliveries[0].at
        # 5 at once, then one each 0.2 s: 15 take 2 s at least, whoever delivers them.
        assert took > 1.8
        attempts = gateway.json("deliveries", ids[-1])["deliveries"][0]["attempts"]
        assert [attempt["n"] for attempt in attempts] == [1]


@pytest.mark.case(n=24)
def test_retry_after_is_waited_for(folder: Path, sink: Sink) -> None:
    """FAULTS 24, through the whole gateway; the forms are tested in tests/unit/test_verdicts.py."""
    sink.answers["one"] = lambda _, before: 503 if before == 0 else 200
    sink.headers["one"] = {"retry-after": "2"}
    retry = "{ initial = '0.1s', factor = 1.0, max = '10s', attempts = 3, jitter = 0.0 }"
    with Watched(folder, target("one", sink.port, retry=retry), sink) as gateway:
        gateway.post("trustshare", body())
        first, second = sink.wait_for("one", 2)
        assert second.at - first.at > 1.8


def test_a_test_event_is_signed_and_shown_whole(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("one", sink.port)) as gateway:
        shown = gateway.command("targets", "test", "one")
        assert shown.returncode == 0, shown.stderr
        [delivery] = sink.wait_for("one", 1)
        delivery.verify(SECRET)
        assert delivery.event["type"] == "headrace.test"
        for word in ("webhook-signature: v1,", "< 200 after", "< seen", '"test": true'):
            assert word in shown.stdout
        assert gateway.redis.keys("hr:event:*") == [], "past all queues"
        sink.answers["one"] = lambda *_: 500
        assert gateway.command("targets", "test", "one").returncode == 1


@pytest.mark.case(n=27)
def test_a_target_that_leaves_the_configuration_is_left_alone_and_removed_by_hand(
    folder: Path, sink: Sink
) -> None:
    """FAULTS 27: its retries wait while another process may still know it; `remove` makes dead letters of them."""
    sink.answers["one"] = lambda *_: 500
    retry = "{ initial = '1h', factor = 1.0, max = '1h', attempts = 3 }"
    gateway = Watched(folder, target("one", sink.port, retry=retry) + target("two", sink.port), sink)
    gateway.everyone = ["two"]  # one is removed on the way
    with gateway:
        id = gateway.post("trustshare", body()).id
        wait_for(lambda: gateway.redis.zcard("hr:due:one") == 1, "a retry to wait")
        assert gateway.command("targets", "remove", "one", "--yes").returncode == 1, (
            "it is in the configuration"
        )
        whole = gateway.config.read_text()
        gateway.config.write_text(whole.replace(target("one", sink.port, retry=retry), ""))
        wait_for(lambda: len(gateway.lines("configuration reloaded")) == 2, "both processes to reload")
        gateway.post("trustshare", body())
        sink.wait_for("two", 2)
        removed = stands(gateway, "one")
        assert (removed["configured"], removed["backlog"]) == (False, 1)
        assert gateway.command("targets", "remove", "one", "--yes").returncode == 0
        assert gateway.redis.zcard("hr:due:one") == 0
        [row] = [row for row in gateway.json("deliveries", id)["deliveries"] if row["target"] == "one"]
        assert row["state"] == "dead"
        assert row["why"]["word"] == "removed"
        assert "removed" in row["why"]["text"]
    assert len(sink.of("one")) == 1
