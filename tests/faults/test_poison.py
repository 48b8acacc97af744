"""Poison: an entry whose adapter raises, loops or kills its process takes no neighbour along."""

from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched
from tests.waiting import wait_for


def body(token: str) -> bytes:
    return b'{"type":"dispute_raised","from":"a","to":"b","token":"%s"}' % token.encode()


@pytest.mark.case(n=33)
@pytest.mark.parametrize(
    ("poison", "code"),
    [
        ("poison-raises", "adapter-failed"),
        ("poison-loops", "poison"),
        ("poison-kills", "poison"),
        ("poison-eats", "poison"),
    ],
)
def test_poison_ends_in_quarantine_and_its_neighbours_arrive(
    poison: str, code: str, folder: Path, sink: Sink
) -> None:
    inside = "poison strict" if poison == "poison-loops" else "poison"  # to allocate takes its time, too
    with Watched(folder, target("all", sink.port), sink, inside=inside) as gateway:
        receipts = [gateway.post("trustshare", body(token)).id for token in ("a", poison, "b", "c")]
        wait_for(lambda: gateway.redis.zcard("hr:quarantine") == 1, "the quarantine", within_s=120)
        sink.wait_for("all", 3, within_s=30)
        [row] = gateway.json("quarantine")["quarantined"]
        assert (row["id"], row["code"]) == (receipts[1], code)
        wait_for(lambda: gateway.redis.xlen("hr:inbox:trustshare") == 0, "the inbox to be empty")
        deaths = len(gateway.lines("child died, starting it again"))
        assert set(sink.counts("all")) == {receipts[0], receipts[2], receipts[3]}
        assert "secret-canary" not in gateway.log.read_text(errors="replace")
    if poison in ("poison-loops", "poison-kills"):
        assert deaths == 4, "once with its batch, three times alone"
    else:
        assert deaths == 0
