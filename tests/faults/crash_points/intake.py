"""The play of ingress: it is killed while a provider sends, and the provider sends again."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.acceptance.gateway import TRUSTSHARE_SECRET
from tests.faults.crash_points import scenario, state
from tests.faults.crash_points.plays import Broken, check
from tests.faults.crash_points.scenario import SHOP, SOURCES, Sent
from tests.faults.crash_points.stage import PATIENCE_S, Stage


def ingress(stage: Stage, kills: Sequence[str], *, cold: bool = False, record: Path | None = None) -> int:
    """Kill ingress while a provider sends; it sends each request until it is answered 200."""
    stage.begin(cold=cold)
    left: list[str | None] = [*kills, None]
    process = stage.start("ingress", kill=left.pop(0), record=record)
    deadline = time.monotonic() + PATIENCE_S

    def insist(method: str, path: str, body: bytes = b"") -> str:
        nonlocal process
        while (answer := _ask(stage, method, path, body)) is None:
            if process.ended(0.02) is not None and left:
                check(stage, _committed(stage), "right after the kill")
                process = stage.start("ingress", kill=left.pop(0), record=record)
            elif time.monotonic() > deadline:
                raise Broken(f"ingress does not answer: {stage.tail()}")
        return answer

    bodies = [scenario.body("dispute_raised", f"i{number}") for number in range(3)]
    receipts = [json.loads(insist("POST", f"/webhooks/{SHOP}", body))["id"] for body in [*bodies, bodies[0]]]
    insist("GET", "/readyz")
    process.kill()
    committed = _committed(stage)
    stage.work()
    now = check(stage, committed, "in the end")
    if lost := [id for id in receipts if id not in now.events and id not in now.duplicates]:
        raise Broken(f"answered 200, and nowhere: {lost}")
    if len(now.events) != len(bodies) or stage.sink.counts("healthy") != Counter(list(now.events)):
        raise Broken(f"each of {len(bodies)} bodies goes out once: {stage.sink.counts('healthy')}")
    return len(kills) - len(left)


def _committed(stage: Stage) -> list[Sent]:
    """What stands in the inbox; nothing else has been made of it yet."""
    return [Sent(SHOP, b"", id) for id in state.read(stage.redis, SOURCES).inbox]


def _ask(stage: Stage, method: str, path: str, body: bytes) -> str | None:
    """Return what is answered with 200; None for whatever else becomes of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=1)
    try:
        connection.request(method, path, body, {"x-trustshare-secret": TRUSTSHARE_SECRET})
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
