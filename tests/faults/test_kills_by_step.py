"""A process is killed at one exact step: the proxy before Redis sees the step's command, or its reply.

Cases 1 to 3 and 5 to 7. What killed processes held is taken over soon here (inside/impatient.py).
"""

import json
import signal
import subprocess
import threading
from typing import Any

import pytest

from tests.acceptance.gateway import HEADRACE
from tests.acceptance.sink import Delivery
from tests.dedupe import holders
from tests.faults.proxy import script
from tests.faults.stage import ONE, TWO, Stage
from tests.faults.watched import body
from tests.waiting import wait_for


@pytest.mark.case(n=1)
def test_an_ingress_killed_before_its_commit_gave_no_200_and_the_retry_is_taken(stage: Stage) -> None:
    stage.kill_at(script("put"), "ingress", ran=False)
    id, refused = stage.post_until_taken(body())
    assert (refused, stage.proxy.cuts_made) == (1, 1)
    stage.gateway.drain()
    assert stage.copies() == 0, "the first never came in"
    assert stage.sink.counts(ONE)[id] == stage.sink.counts(TWO)[id] == 1


@pytest.mark.case(n=3)
def test_an_ingress_killed_after_its_commit_leaves_a_retry_that_is_a_duplicate(stage: Stage) -> None:
    stage.kill_at(script("put"), "ingress", ran=True)
    id, refused = stage.post_until_taken(body())
    assert (refused, stage.proxy.cuts_made) == (1, 1)
    stage.gateway.drain()
    wait_for(lambda: stage.copies() == 1, "the copy to be recorded")
    assert stage.gateway.redis.hget(f"hr:duplicate:{id}", "of"), "the receipt is the copy's"
    assert len(stage.sink.of(ONE)) == len(stage.sink.of(TWO)) == 2, "the first event, and this one once"


@pytest.mark.case(n=2)
@pytest.mark.case(n=5)
@pytest.mark.parametrize("ran", [False, True], ids=["before", "after"])
def test_no_dedupe_key_stands_without_its_event(ran: bool, stage: Stage) -> None:
    """There is nothing between claiming the key and storing: admission did all of it, or nothing."""
    stage.kill_at(script("admit"), "workers", ran=ran)
    id = stage.gateway.post("trustshare", body()).id
    stage.killed()
    redis = stage.gateway.redis
    held = holders(redis)
    assert len(held) == (2 if ran else 1)
    for event in held:
        assert redis.exists(f"hr:event:{event}")
    assert bool(redis.exists(f"hr:event:{id}")) is ran
    stage.gateway.drain()
    assert stage.copies() == 0, "taken again, it is no copy of itself"
    assert stage.sink.counts(ONE)[id] == stage.sink.counts(TWO)[id] == 1


@pytest.mark.case(n=5)
@pytest.mark.parametrize(
    ("command", "ran"),
    [
        pytest.param(b"BRPOP", True, id="with the doorbell in hand"),
        pytest.param(script("take_in_turn"), True, id="with the batch in hand"),
        pytest.param(script("claim"), True, id="with deliveries in hand"),
    ],
)
def test_what_a_killed_worker_held_is_taken_over_and_delivered_once(
    command: bytes, ran: bool, stage: Stage
) -> None:
    stage.kill_at(command, "workers", ran=ran)
    if command == b"BRPOP":
        stage.killed()  # it waits for a doorbell now, and will have the next in hand when it dies
    ids = [stage.gateway.post("trustshare", body()).id for _ in range(3)]
    stage.killed()
    stage.gateway.drain()
    for name in (ONE, TWO):
        # Killed before anything was sent: nobody has a reason to get anything twice.
        assert [stage.sink.counts(name)[id] for id in ids] == [1, 1, 1]


@pytest.mark.case(n=5)
@pytest.mark.case(n=57)
def test_a_worker_killed_in_the_middle_of_a_fan_out_repeats_only_what_was_not_done(stage: Stage) -> None:
    dead = threading.Event()

    def answer_a_dead_worker_first(_: Delivery, before: int) -> int:
        if not before:
            dead.wait(120)
        return 200

    stage.sink.answers[TWO] = answer_a_dead_worker_first
    id = stage.gateway.post("trustshare", body()).id
    wait_for(lambda: stage.sink.counts(TWO)[id], "one delivery to be under way", within_s=60)
    wait_for(lambda: stage.gateway.redis.hget(f"hr:event:{id}", f"end:{ONE}"), "the other", within_s=60)
    assert stage.kill("workers")
    dead.set()
    stage.gateway.drain()
    assert stage.sink.counts(ONE)[id] == 1, "done was done"
    assert stage.sink.counts(TWO)[id] == 2


@pytest.mark.case(n=6)
def test_a_worker_killed_between_the_targets_200_and_its_record_sends_again_under_the_same_id(
    stage: Stage,
) -> None:
    stage.kill_at(script("settle"), "workers", ran=False)
    id = stage.gateway.post("trustshare", body()).id
    stage.killed()
    stage.gateway.drain()
    counts = [stage.sink.counts(name)[id] for name in (ONE, TWO)]
    assert sum(counts) > 2, "at least one was sent again"
    assert all(count in (1, 2) for count in counts)
    assert {each.id for each in stage.sink.of(ONE)[1:] + stage.sink.of(TWO)[1:]} == {id}


@pytest.mark.case(n=7)
@pytest.mark.parametrize("ran", [False, True], ids=["before", "after"])
def test_a_worker_killed_while_dead_lettering_leaves_it_in_exactly_one_place(ran: bool, stage: Stage) -> None:
    stage.sink.answers[ONE] = lambda _, before: 500
    id = stage.gateway.post("trustshare", body()).id
    # Two attempts are all: the settlement of the second makes the dead letter.
    wait_for(lambda: stage.gateway.redis.hget(f"hr:event:{id}", f"failed:{ONE}") == b"1", "the first attempt")
    stage.kill_at(script("settle"), "workers", ran=ran)
    stage.killed()
    assert len(places(stage, id)) == 1
    stage.gateway.drain()
    assert places(stage, id) == ["dead"]
    assert stage.sink.counts(ONE)[id] == (2 if ran else 3)


@pytest.mark.case(n=7)
@pytest.mark.parametrize("ran", [False, True], ids=["before", "after"])
def test_a_replay_killed_under_way_is_said_again_and_sends_each_once(ran: bool, stage: Stage) -> None:
    stage.sink.answers[ONE] = lambda *_: 500
    ids = [stage.gateway.post("trustshare", body()).id for _ in range(3)]
    wait_for(lambda: stage.gateway.redis.zcard(f"hr:dead:{ONE}") == 3, "dead letters")
    stage.sink.answers[ONE] = lambda *_: 200
    before = stage.sink.counts(ONE)
    argv = [HEADRACE, "replay", "--config", str(stage.gateway.config), "--dead-letters", ONE, "--yes"]
    # One that works once, so that Redis knows the script: of nothing at all.
    subprocess.run([*argv[:-3], "--json", ids[0], "--to", TWO, "--yes"], check=True, capture_output=True)
    stage.gateway.drain()
    replay = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stage.proxy.cut(script("replay"), ran=ran, then=replay.kill)
    assert replay.wait(60) == -signal.SIGKILL
    for id in ids:
        assert len(places(stage, id)) <= 1, "never in two"
    subprocess.run(argv, check=True, capture_output=True)
    stage.gateway.drain()
    for id in ids:
        assert places(stage, id) == []
        assert stage.gateway.redis.hget(f"hr:event:{id}", f"end:{ONE}") == b"done"
        assert stage.sink.counts(ONE)[id] == before[id] + 1
    notes: Any = stage.gateway.redis.xrange("hr:audit")
    selected = [json.loads(note[b"selected"]) for _, note in notes]
    # The one that was killed is on record; the other had nothing left to do where that one's step ran.
    assert [each.get("dead_letters_of") for each in selected[1:]] == ([ONE] if ran else [ONE, ONE])


def places(stage: Stage, id: str) -> list[str]:
    """In which sets of the target a delivery stands."""
    redis = stage.gateway.redis
    return [place for place in ("due", "leased", "dead") if redis.zscore(f"hr:{place}:{ONE}", id) is not None]
