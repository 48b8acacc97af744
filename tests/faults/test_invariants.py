"""The checks that run after every case, each shown to fail where what it is about is wrong."""

from pathlib import Path

import pytest

from tests.acceptance.canaries import EMAIL
from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.invariants import Record, nothing_leaks, only_allowed_are_dialled
from tests.faults.watched import Watched, body


def test_each_invariant_is_seen_to_be_broken_where_it_is(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("all", sink.port), sink) as gateway:
        lost, sent, copied = [gateway.post("trustshare", event := body()).id for _ in range(3)]
        gateway.post("trustshare", event)
        gateway.drain()
        gateway.compare()
        with gateway.redis as redis:
            now = redis.zscore(
                "hr:finished", lost
            )  # what is older is packed within a second, and listed elsewhere
            redis.zrem("hr:finished", lost)
            with pytest.raises(AssertionError, match=f"1 lost: .'{lost} is nowhere"):
                gateway.compare()
            redis.zadd("hr:finished", {lost: now})

            record = Record(redis)
            assert record.lost(sent, {"all": ()}, ["all"]) == f"{sent} did not reach ['all']"
            assert record.lost(sent, {"all": [sent]}, ["all", "other"]) == f"{sent} did not reach ['other']"

            twin = f"evt_00000000000{copied[15:23]}1"
            redis.zadd("hr:finished", {twin: now})
            redis.copy(f"hr:event:{copied}", f"hr:event:{twin}")
            with pytest.raises(AssertionError, match="1 bodies were admitted more than once"):
                gateway.compare()
            redis.zrem("hr:finished", twin)

        again = next(delivery for delivery in sink.deliveries if delivery.id == sent)
        sink.take("all", again.headers, again.body)
        with pytest.raises(AssertionError, match=f"all got {sent} 2 times, for 1 reasons"):
            gateway.compare()
        sink.forget(again)
        gateway.compare()
    with pytest.raises(AssertionError, match="canary"):
        nothing_leaks({"a log": f"sent to {EMAIL}"}, [EMAIL])
    with pytest.raises(AssertionError, match="a connection to 169"):
        only_allowed_are_dialled(["169.254.169.254 80"], {80}, ())
    with pytest.raises(AssertionError, match="port 81"):
        only_allowed_are_dialled(["127.0.0.1 81"], {80}, ())
    with pytest.raises(AssertionError, match="does not see"):
        only_allowed_are_dialled([], {80}, {80})
