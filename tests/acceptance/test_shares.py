"""Each target and each source has its share of memory, with the real gateway and a small Redis."""

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.gateway import Gateway, target
from tests.acceptance.sink import Sink
from tests.conftest import MEMORY, RedisServer
from tests.waiting import wait_for

MAXMEMORY_MB = 60
PAD = "x" * 16_000
EVENTS, BATCH = 5000, 100
QUICK = "{ initial = '0.1s', factor = 1.0, attempts = 2 }"
PATIENT = "{ failures = 100000 }"


@pytest.fixture
def small() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="hr-", dir=MEMORY) as folder:
        server = RedisServer(Path(folder), "--maxmemory", f"{MAXMEMORY_MB}mb")
        server.start()
        try:
            yield server
        finally:
            server.kill()


def gateway_of(folder: Path, small: RedisServer, targets: str, **options: Any) -> Gateway:
    gateway = Gateway(folder, targets, redis_url=small.url, **options)
    gateway.redis = small.client()
    return gateway


def paid(number: int) -> bytes:
    body = {"type": "payment_received", "token": f"t{number}", "paymentToken": f"p{number}", "note": PAD}
    return json.dumps(body).encode()


def send(gateway: Gateway, numbers: range) -> set[str]:
    """Send events from the healthy source; each is answered 200 at the first time of asking."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: gateway.post("trustshare", paid(n), once=True), numbers))
    assert {(answer.status, b"" if answer.status == 200 else answer.body) for answer in answers} == {
        (200, b"")
    }
    return {answer.id for answer in answers}


def used(gateway: Gateway) -> float:
    memory: Any = gateway.redis.info("memory")
    return float(memory["used_memory"] / memory["maxmemory"])


def has_all(sink: Sink, name: str, ids: set[str]) -> bool:
    return set(sink.counts(name)) >= ids


def delivered(gateway: Gateway, name: str) -> bool:
    return not gateway.redis.exists(f"hr:due:{name}", f"hr:leased:{name}")


def dead_letters(gateway: Gateway, name: str) -> list[str]:
    found = gateway.json("dead-letters", "--target", name, "--limit", "100000")
    ids = [letter["id"] for letter in found["dead_letters"]]
    assert len(set(ids)) == len(ids), "each is shown once"
    return ids


@pytest.mark.case(n=47)
@pytest.mark.timeout(400)
def test_targets_that_are_down_fill_their_share_and_the_disk_and_no_other_notices(
    folder: Path, sink: Sink, small: RedisServer
) -> None:
    """Several times what Redis holds goes through; `dying` gives up soon, `waiting` never does by itself."""
    sink.answers |= {"dying": lambda *_: 500, "waiting": lambda *_: 500}
    targets = (
        target("works", sink.port)
        + target("dying", sink.port, retry=QUICK, breaker=PATIENT)
        + target("waiting", sink.port)
    )
    with gateway_of(folder, small, targets, workers=2) as gateway:
        sent: set[str] = set()
        for start in range(0, EVENTS, BATCH):
            sent |= send(gateway, range(start, start + BATCH))
            if start % (5 * BATCH) == 0:
                gateway.kill("workers")  # whatever it was about to do: moving letters, too
            wait_for(partial(has_all, sink, "works", sent), "works to have got all", within_s=60)
            # A batch fills some hundredths of so small a Redis; whatever a machine's speed, room is made again.
            wait_for(lambda: used(gateway) < 0.7, "room for the next", within_s=60)
        assert set(sink.counts("works")) == sent
        assert len(sent) * len(PAD) > MAXMEMORY_MB * 2**20

        def gone_or_dead() -> bool:
            counts = gateway.json("dead-letters")["counts"]
            rows = {row["name"]: row for row in gateway.json("targets")["targets"]}
            return bool(
                counts["dying"] == len(sent)
                and counts["waiting"] + rows["waiting"]["backlog"] + rows["waiting"]["in_flight"] == len(sent)
            )

        wait_for(gone_or_dead, "what is dead to be counted", within_s=60)
        assert set(dead_letters(gateway, "dying")) == sent
        rows = {row["name"]: row for row in gateway.json("targets")["targets"]}
        assert rows["dying"]["on_disk"] > 0
        assert rows["waiting"]["on_disk"] > 0
        said = {
            line["target"]
            for line in gateway.lines("a target is past its share of memory: its dead letters go to disk")
        }
        assert said == {"dying", "waiting"}
        [letter] = gateway.json("dead-letters", "--target", "waiting", "--limit", "1")["dead_letters"]
        assert letter["why"]["word"] == "share"

        # And to the end: all of them are replayed, and each comes.
        sink.answers.clear()
        sink.begin_anew()
        for name in ("dying", "waiting"):
            gateway.command(
                "targets", "resume", name
            )  # not in some minutes, when its breaker would ask again
            again = gateway.command("replay", "--dead-letters", name, "--yes", timeout_s=200)
            assert again.returncode == 0, again.stderr
            assert dead_letters(gateway, name) == []
        for name in ("dying", "waiting"):
            wait_for(partial(delivered, gateway, name), f"{name} to get all", within_s=120)
        assert set(sink.counts("dying")) == sent
        assert set(sink.counts("waiting")) == sent
    assert os.stat(folder / ".headrace" / "dead-letters.db").st_mode & 0o077 == 0
