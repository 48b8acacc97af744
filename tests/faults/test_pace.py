"""Fault cases 25 and 26: what fails for ever ends with its history, and one dead target costs no other its pace."""

import socket
from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body
from tests.waiting import wait_for


@pytest.mark.case(n=25)
@pytest.mark.parametrize(
    ("limit", "attempts"),
    [
        pytest.param(
            {"retry": "{ initial = '0.1s', factor = 2.0, max = '1s', attempts = 4 }"}, 4, id="attempts"
        ),
        pytest.param(
            {
                "retry": "{ initial = '0.4s', factor = 1.0, max = '0.4s', attempts = 100, jitter = 0.0 }",
                "max_age": "'1s'",
            },
            3,
            id="max_age",
        ),
        pytest.param({"give_up_on": "[500]"}, 1, id="give_up_on"),
    ],
)
def test_what_fails_for_ever_ends_as_a_dead_letter_with_its_history(
    limit: dict[str, str], attempts: int, folder: Path, sink: Sink
) -> None:
    """FAULTS 25."""
    sink.answers["one"] = lambda *_: 500
    with Watched(folder, target("one", sink.port, **limit), sink) as gateway:
        id = gateway.post("trustshare", body()).id
        wait_for(lambda: gateway.redis.zcard("hr:dead:one") == 1, "a dead letter")
        [row] = gateway.json("deliveries", id)["deliveries"]
        made = len(row["attempts"])
        assert row["state"] == "dead"
        assert [attempt["n"] for attempt in row["attempts"]] == list(range(1, made + 1))
        # How many fit into an age depends on when the worker was ready for the first.
        assert made <= attempts if "max_age" in limit else made == attempts
        assert {attempt["status"] for attempt in row["attempts"]} == {500}
    assert len(sink.of("one")) == made


@pytest.mark.case(n=26)
def test_one_dead_target_among_50_costs_the_others_nothing(folder: Path, sink: Sink) -> None:
    """FAULTS 26: all that the others get, they get before the dead one's first attempt is over."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as black_hole:
        port = black_hole.getsockname()[1]
        names = [f"healthy-{number}" for number in range(49)]
        targets = "".join(target(name, sink.port) for name in names)
        targets += target("dead", port, timeout='"60s"', concurrency="500")
        with Watched(folder, targets, sink) as gateway:
            gateway.waits_for = ("dead",)
            ids = {gateway.post("trustshare", body()).id for _ in range(20)}
            for name in names:
                wait_for(lambda name=name: sink.counts(name).keys() == ids, f"all events at {name}")  # type: ignore[misc]
            assert gateway.redis.zcard("hr:leased:dead") == 20, "its own are still under way"
            assert all(len(sink.of(name)) == 20 for name in names)
            for line in gateway.lines("delivery"):
                assert line["target"] != "dead"


def test_more_targets_than_redis_connections_are_claimed_for_at_once(folder: Path, sink: Sink) -> None:
    """Each lane had a connection of its own while it claimed, and beyond 100 of them claims failed."""
    names = [f"t{number}" for number in range(130)]
    with Watched(folder, "".join(target(name, sink.port) for name in names), sink) as gateway:
        for _ in range(5):
            gateway.post("trustshare", body())
        wait_for(lambda: len(sink.deliveries) == 650, "all deliveries", within_s=40)
        assert gateway.lines("claim failed") == []
