"""Retries, dead letters, and their replay."""

import itertools
import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.gateway import SECRET, Gateway, target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched
from tests.waiting import wait_for

RETRY = "{ initial = '0.2s', factor = 2.0, max = '5s', attempts = 5, jitter = 0.1 }"


def body() -> bytes:
    token = uuid4().hex
    return json.dumps({"type": "dispute_raised", "from": "a@b", "to": "c@d", "token": token}).encode()


@pytest.fixture
def gateway(folder: Path, sink: Sink) -> Gateway:
    return Gateway(folder, target("flaky", sink.port, retry=RETRY) + target("steady", sink.port))


def test_a_target_that_fails_three_times_gets_four_attempts_under_one_id(
    gateway: Gateway, sink: Sink
) -> None:
    sink.answers["flaky"] = lambda _, before: 500 if before < 3 else 204
    with gateway:
        id = gateway.post("trustshare", body()).id
        attempts = sink.wait_for("flaky", 4)
        sink.wait_for("steady", 1)
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "the event to be finished")
        [flaky] = [row for row in gateway.json("deliveries", id)["deliveries"] if row["target"] == "flaky"]
    assert {delivery.id for delivery in attempts} == {id}
    assert len(sink.of("flaky")) == 4
    waits = [later.at - earlier.at for earlier, later in itertools.pairwise(attempts)]
    # How much later than that depends on the machine. 0.2 s, doubled, less the jitter, and less what clocks round.
    assert all(wait > least for wait, least in zip(waits, (0.17, 0.35, 0.71), strict=True)), waits
    assert len({delivery.headers["webhook-signature"] for delivery in attempts}) > 1, (
        "each attempt is signed anew"
    )
    for delivery in attempts:
        delivery.verify(SECRET)
    assert [attempt["status"] for attempt in flaky["attempts"]] == [500, 500, 500, 204]
    assert all(attempt["duration_ms"] > 0 and attempt["at"].endswith("Z") for attempt in flaky["attempts"])
    assert flaky["state"] == "done"


def test_a_target_that_always_fails_gets_a_dead_letter_that_a_replay_delivers(
    gateway: Gateway, sink: Sink
) -> None:
    sink.answers["flaky"] = lambda *_: 500
    with gateway:
        id = gateway.post("trustshare", body()).id
        wait_for(lambda: gateway.redis.zcard("hr:dead:flaky") == 1, "a dead letter")
        assert len(sink.of("flaky")) == 5
        [letter] = gateway.json("dead-letters", "--target", "flaky")["dead_letters"]
        assert (letter["id"], letter["target"]) == (id, "flaky")
        assert gateway.redis.zcard("hr:open") == 1, "a dead letter keeps its event"

        dry = gateway.command("replay", "--dead-letters", "flaky", "--dry-run")
        assert (dry.returncode, len(sink.of("flaky"))) == (0, 5)
        assert "1" in dry.stdout
        assert gateway.command("replay", "--dead-letters", "flaky").returncode == 2, (
            "it asks before it does it"
        )

        sink.answers["flaky"] = lambda *_: 200
        assert gateway.command("replay", "--dead-letters", "flaky", "--yes").returncode == 0
        replayed = sink.wait_for("flaky", 6)[5]
        assert replayed.id == id
        replayed.verify(SECRET)
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "the event to be finished")
        assert gateway.json("dead-letters")["dead_letters"] == []
    assert len(sink.of("steady")) == 1, "only the target asked for gets it again"


@pytest.mark.case(n=19)
def test_a_redirect_is_a_failed_attempt_and_never_followed(gateway: Gateway, sink: Sink) -> None:
    sink.answers["flaky"] = lambda _, before: 302 if before == 0 else 200
    with gateway:
        gateway.post("trustshare", body())
        sink.wait_for("flaky", 2)


@pytest.mark.case(n=4)
def test_a_lost_doorbell_costs_about_a_second(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("steady", sink.port), sink) as gateway:
        with gateway.redis as redis:
            # What ingress does, and then the doorbell gone with its flag: only the record is left.
            body_ = body()
            redis.set("hr:rung:headrace.admit:trustshare", "1")
            gateway.post("trustshare", body_)
            assert redis.llen("headrace") == 0
            redis.delete("hr:rung:headrace.admit:trustshare")
        sink.wait_for("steady", 1, within_s=10)
