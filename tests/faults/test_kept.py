"""Case 38: records that an earlier version wrote are still read: an update loses nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.sink import Sink
from tests.conftest import RedisServer
from tests.faults.invariants import members
from tests.faults.kept import FOLDER, FOR_EVER, event, load, targets
from tests.faults.watched import Watched
from tests.waiting import wait_for

FILES = sorted(FOLDER.glob("layout-*.json"))


@pytest.mark.case(n=38)
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_records_of_an_earlier_version_are_read_and_delivered(file: Path, folder: Path, sink: Sink) -> None:
    server = RedisServer(folder)
    server.start()
    redis = server.client()
    load(redis, json.loads(file.read_text()))
    open_ids, dead = members(redis, "hr:open"), members(redis, "hr:dead:gives-up")
    [quarantined], [copy] = members(redis, "hr:quarantine"), members(redis, "hr:duplicates")
    packed = members(redis, "hr:packed")
    delivered = {id for id in open_ids if redis.hget(f"hr:event:{id}", "end:works") == b"done"}
    gateway = Watched(
        folder, FOR_EVER + targets(sink.port), sink, redis_url=server.url, redis=redis, inside="impatient"
    )
    gateway.waits_for = ("retries", "keeps-order")
    try:
        with gateway:
            # What lay in the inbox, taken by a worker that is no more or not, and what was on its way.
            wait_for(lambda: len(sink.counts("works")) == 3, "what had not been delivered", within_s=40)
            assert {*sink.counts("works")} & delivered == set()
            assert [tokens(sink, "works")] == [{"leased", "taken", "waiting"}]
            # What is held is known, and its copies.
            again = gateway.post("trustshare", event("first")).id
            wait_for(lambda: redis.hexists(f"hr:duplicate:{again}", "of"), "the re-send to be a duplicate")
            assert redis.hget(f"hr:duplicate:{again}", "of") == redis.hget(f"hr:duplicate:{copy}", "of")
            gateway.receipts.clear()  # that first was delivered to a sink of the earlier version's
            # Dead letters, waiting retries and the first of each transaction go out when they are sent again.
            command = gateway.command("replay", "--dead-letters", "gives-up", "--yes")
            assert command.returncode == 0, command.stderr
            wait_for(lambda: {*sink.counts("gives-up")} >= {*dead}, "the dead letters")
            for name in gateway.waits_for:
                for id in members(redis, f"hr:due:{name}"):
                    redis.zadd(f"hr:due:{name}", {id: 1})
            gateway.waits_for = ()
            gateway.drain()
            assert {*sink.counts("retries")} >= {*open_ids}
            assert {*sink.counts("keeps-order")} >= {*open_ids}
            # And all is shown.
            for arguments in (["events", quarantined], ["events", copy], ["deliveries", open_ids[0]]):
                assert gateway.command(*arguments).returncode == 0
            rows = gateway.json("deliveries", open_ids[0])["deliveries"]
            assert len([row for row in rows if row["attempts"]]) == 4, "with what was tried before"
            assert gateway.json("quarantine")["quarantined"][0]["id"] == quarantined
            shown = gateway.json("transaction", "trustshare", "first")
            assert len(shown["timeline"]["steps"]) == 2
            assert gateway.command("admit", quarantined, "--yes").returncode in (0, 1)
            for id in packed:
                rows = gateway.json("deliveries", id)["deliveries"]
                assert [len(row["attempts"]) for row in rows] == [1] * 4
                assert gateway.command("replay", id, "--yes").returncode == 0
            wait_for(lambda: {*sink.counts("works")} >= {*packed}, "what was packed to be sent again")
            gateway.drain()
    finally:
        redis.close()
        server.kill()


def tokens(sink: Sink, target: str) -> set[Any]:
    return {delivery.event["data"]["transaction_id"] for delivery in sink.of(target)}
