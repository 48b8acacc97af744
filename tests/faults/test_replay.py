"""Case 37: replays said twice, at once, and while their target is down."""

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.gateway import HEADRACE, target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

RETRY = "{ initial = '0.1s', factor = 1.0, max = '0.1s', attempts = 2 }"
COUNT = 20


@pytest.mark.case(n=37)
def test_a_replay_said_twice_or_while_its_target_is_down_is_idempotent_and_audited(
    folder: Path, sink: Sink
) -> None:
    sink.answers["one"] = lambda *_: 500
    breaker = "{ failures = 1000, initial = '1s', max = '1s' }"
    with Watched(folder, target("one", sink.port, retry=RETRY, breaker=breaker), sink) as gateway:
        ids = {gateway.post("trustshare", body()).id for _ in range(COUNT)}
        argv = [
            HEADRACE,
            "replay",
            "--config",
            str(gateway.config),
            "--dead-letters",
            "one",
            "--yes",
            "--json",
        ]

        def dead() -> bool:
            return gateway.redis.zcard("hr:dead:one") == COUNT

        def replayed(process: subprocess.Popen[str]) -> int:
            said, _ = process.communicate(timeout=30)
            assert process.returncode == 0
            sent: dict[str, int] = (json.loads(said)["replayed"] or {}).get("deliveries", {})
            return sent.get("one", 0)

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

        wait_for(dead, "dead letters")
        assert replayed(start()) == COUNT
        wait_for(lambda: dead() and len(sink.of("one")) == COUNT * 4, "the same dead letters, tried again")

        held = threading.Event()

        def when_told(*_: object) -> int:
            held.wait(20)
            return 200

        sink.answers["one"] = when_told
        before = sink.counts("one")
        at_once = [start(), start()]
        assert sum(replayed(each) for each in at_once) == COUNT, "each delivery by one of the two"
        assert replayed(start()) == 0, "and all are on their way"
        held.set()
        gateway.drain()
        assert sink.counts("one") == {id: before[id] + 1 for id in ids}
        assert gateway.redis.zcard("hr:dead:one") == 0
        entries: Any = gateway.redis.xrange("hr:audit")
        notes = [fields for _, fields in entries if fields[b"action"] == b"replay"]
        assert 2 <= len(notes) <= 3, "each that had anything to do"
        for note in notes:
            assert note[b"user"]
            assert json.loads(note[b"selected"])["dead_letters_of"] == "one"
            assert json.loads(note[b"deliveries"])["one"] <= COUNT
