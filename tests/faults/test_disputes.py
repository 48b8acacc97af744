"""A dispute is known as new by what came before it: a worker's death must not turn that round."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.event.ids import received_ms
from tests.acceptance.gateway import SOURCES, target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched
from tests.packed import finished
from tests.waiting import wait_for


def body(said: str) -> bytes:
    """The body that the worker dies of where it comes first, and whoever takes it after that does not."""
    kind, _, about = said.partition(" ")
    fields = {"type": f"dispute_{kind}", "from": "a", "to": "b", "token": "dies-once", "description": about}
    return json.dumps(fields).encode()


@pytest.mark.case(n=51)
@pytest.mark.parametrize(
    ("said", "events"),
    [
        (
            ("raised late", "resolved", "raised broken"),
            ["dispute.raised", "dispute.resolved", "dispute.raised"],
        ),
        (("raised late", "raised late", "resolved"), ["dispute.raised", "dispute.resolved"]),
        (
            ("raised late", "resolved", "raised late", "resolved", "raised late", "resolved"),
            ["dispute.raised", "dispute.resolved"],
        ),
    ],
    ids=[
        "a second dispute is no copy",
        "a copy is no second dispute",
        "pairs that are sent again are copies",
    ],
)
def test_what_a_dead_worker_had_taken_keeps_its_place(
    said: tuple[str, ...], events: list[str], folder: Path, sink: Sink
) -> None:
    with Watched(folder, target("all", sink.port), sink, inside="poison") as gateway:
        gateway.post("trustshare", body(said[0]))
        wait_for((folder / "died-once").exists, "the worker to die with the first", within_s=30)
        for more in said[1:]:
            gateway.post("trustshare", body(more))
        wait_for(lambda: gateway.redis.xlen("hr:inbox:trustshare") == 0, "the inbox to be empty", within_s=60)
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "all to be delivered", within_s=30)
    assert sorted(delivery.event["type"] for delivery in sink.of("all")) == sorted(events)


@pytest.mark.case(n=51)
def test_a_second_dispute_in_the_same_bytes_passes_after_the_resend_window_or_by_hand(
    folder: Path, sink: Sink
) -> None:
    sources = 'dedupe.resend_window = "5s"\n' + SOURCES
    with Watched(folder, target("all", sink.port), sink, sources=sources) as gateway:
        gateway.bodies_recur = True
        first = gateway.post("trustshare", body("raised late")).id
        resolved = gateway.post("trustshare", body("resolved")).id
        copy = gateway.post("trustshare", body("raised late")).id
        wait_for(lambda: len(finished(gateway.redis)) == 2, "the first round", within_s=30)
        wait_for(lambda: gateway.redis.zcard("hr:duplicates") == 1, "the copy", within_s=30)
        # Where it was no copy, an operator sees it, and lets it in.
        [listed] = gateway.json("events", "--duplicates")["duplicates"]
        assert (listed["id"], listed["of"], listed["identical"]) == (copy, first, True)
        assert gateway.command("admit", copy, "--yes").returncode == 0
        sink.wait_for("all", 3)
        until = received_ms(copy) + 5000
        wait_for(lambda: now_ms(gateway.redis) > until, "the span to be over", within_s=30)
        again = gateway.post("trustshare", body("resolved")).id
        later = gateway.post("trustshare", body("raised late")).id
        sink.wait_for("all", 5)
    assert sorted(sink.counts("all")) == [first, resolved, copy, again, later]


def now_ms(redis: Any) -> int:
    seconds, micros = redis.time()
    return int(seconds) * 1000 + int(micros) // 1000
