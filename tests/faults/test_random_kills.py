"""Case 8: every kind of process is killed at random, under load."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Providers, Watched
from tests.waiting import wait_for

SEED = 20261121
FOR_S = 20.0
KINDS = ["workers", "workers", "ingress", "redis-server", "supervisor"]


@pytest.mark.case(n=8)
def test_every_process_is_killed_in_turn_under_load(folder: Path, sink: Sink) -> None:
    chaos = random.Random(SEED)
    targets = "".join(target(name, sink.port, timeout='"2s"') for name in ("one", "two"))
    kills: Counter[str] = Counter()
    with Watched(folder, targets, sink, workers=2, inside="impatient") as gateway:
        with Providers(gateway, pause_s=0.01) as load:
            end = time.monotonic() + FOR_S
            while time.monotonic() < end or len(kills) < len(set(KINDS)):
                for kind in chaos.sample(KINDS, len(KINDS)):
                    time.sleep(chaos.uniform(0.2, 1.2))
                    if kind == "supervisor":
                        assert gateway.process is not None
                        gateway.process.kill()
                        gateway.process.wait()
                        gateway.start()  # its children have ended with it: a service manager starts all anew
                        kills[kind] += 1
                    else:
                        kills[kind] += bool(gateway.kill(kind))
                assert sum(kills.values()) < 200
        print(f"seed {SEED}, kills {dict(kills)}, accepted {load.accepted}, refused {dict(load.refused)}")
        assert load.accepted > 50
        wait_for(gateway.ready, "the gateway", within_s=30)
