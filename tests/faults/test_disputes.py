"""A dispute is known as new by what came before it: a worker's death must not turn that round."""

from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched
from tests.waiting import wait_for


def body(kind: str) -> bytes:
    """The body that the worker dies of where it comes first, and whoever takes it after that does not."""
    return b'{"type":"dispute_%s","from":"a","to":"b","token":"dies-once"}' % kind.encode()


@pytest.mark.parametrize(
    ("kinds", "events"),
    [
        (("raised", "resolved", "raised"), ["dispute.raised", "dispute.resolved", "dispute.raised"]),
        (("raised", "raised", "resolved"), ["dispute.raised", "dispute.resolved"]),
    ],
    ids=["a second dispute is no copy", "a copy is no second dispute"],
)
def test_what_a_dead_worker_had_taken_keeps_its_place(
    kinds: tuple[str, ...], events: list[str], folder: Path, sink: Sink
) -> None:
    with Watched(folder, target("all", sink.port), sink, inside="poison") as gateway:
        gateway.bodies_recur = True  # a dispute raised again looks as it did the first time
        gateway.post("trustshare", body(kinds[0]))
        wait_for((folder / "died-once").exists, "the worker to die with the first", within_s=30)
        for kind in kinds[1:]:
            gateway.post("trustshare", body(kind))
        wait_for(lambda: gateway.redis.xlen("hr:inbox:trustshare") == 0, "the inbox to be empty", within_s=60)
        wait_for(lambda: not gateway.redis.zcard("hr:open"), "all to be delivered", within_s=30)
    assert sorted(delivery.event["type"] for delivery in sink.of("all")) == sorted(events)
