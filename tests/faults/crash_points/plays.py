"""The plays: what is killed and started again in each, and what must hold after every kill and in the end."""

import http.client
import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shared.store.context import of_source
from tests.acceptance.gateway import SECRET, TRUSTSHARE_SECRET
from tests.faults.crash_points import scenario, state
from tests.faults.crash_points.scenario import ORDERS, SHOP, SOURCES, Sent
from tests.faults.crash_points.stage import PATIENCE_S, Stage

Held = Counter[tuple[str, str]]
"""How often a delivery, (target, event), was in the hands of a process that was killed."""


class Broken(AssertionError):
    """What was promised does not hold."""


def check(stage: Stage, sent: Sequence[Sent], when: str) -> state.State:
    """Read the state and hold it against what must be at every moment."""
    now = state.read(stage.redis, SOURCES)
    wrong = state.problems(now, {each.id for each in sent})
    if wrong:
        raise Broken(f"{when}: " + "; ".join(wrong))
    return now


def after_a_kill(stage: Stage, sent: Sequence[Sent], held: Held) -> None:
    """Check at once, remember what was in hand, and let the time pass that it is held."""
    for target, ids in check(stage, sent, "right after the kill").leased.items():
        held.update((target, id) for id in ids)
    stage.age()


def worker(stage: Stage, kills: Sequence[str], *, cold: bool = False, record: Path | None = None) -> int:
    """Kill a worker, and the next one …, then let one go on. Returns how many died at their points.

    `cold`, as in all plays: Redis was restarted, and knows no scripts.
    """
    stage.begin(cold=cold)
    sent = scenario.seed(stage.server.url, stage.config)
    held: Held = Counter()
    deaths = 0
    for kill in kills:
        if not stage.work(kill=kill):
            break
        deaths += 1
        after_a_kill(stage, sent, held)
        for source, body in scenario.AGAIN:
            sent += scenario.send(stage.server.url, source, body)
    stage.work(record=record)
    verify(stage, sent, held)
    return deaths


def verify(stage: Stage, sent: Sequence[Sent], held: Held) -> None:
    """Check the end: each event once, where it belongs; each request explained."""
    now = check(stage, sent, "in the end")
    by_body: dict[tuple[str, bytes], list[str]] = {}
    for each in sent:
        by_body.setdefault((each.source, each.body), []).append(each.id)
    for (source, body), ids in by_body.items():
        kept = now.quarantined if body == scenario.UNREADABLE else now.events
        firsts = [id for id in ids if id in kept]
        if len(firsts) != 1:
            raise Broken(f"{source} {body!r}: one of {ids} must be kept, and {firsts} are")
        if any(now.duplicates[id]["of"] != firsts[0] for id in ids if id != firsts[0]):
            raise Broken(f"{source} {body!r}: a copy is recorded as one of another than {firsts[0]}")
        if kept is now.events:
            _ended_well(now, source, firsts[0])
    _requests(stage, now, held)
    _order(stage)
    _quiet(stage)


def _ended_well(now: state.State, source: str, id: str) -> None:
    event = now.events[id]
    targets = set(event["targets"].split(","))
    if targets - {scenario.REMOVED} != scenario.of_targets(source):
        raise Broken(f"{id} of {source} went to {sorted(targets)}")
    for target in targets:
        end = "done" if target in scenario.DONE else "dead"
        if event.get(f"end:{target}") != end:
            raise Broken(f"{id} for {target} ended as {event.get(f'end:{target}')}, not {end}")


def _requests(stage: Stage, now: state.State, held: Held) -> None:
    wanted = {"healthy": 1, "slow": 1, "ordered": 1, "flaky": 3, "failing": 1, "gone": 0}
    for target, least in wanted.items():
        counts = stage.sink.counts(target)
        events = {id for id, event in now.events.items() if target in event["targets"].split(",")}
        if set(counts) - events:
            raise Broken(f"{target} got what is not its: {sorted(set(counts) - events)}")
        for id in events:
            most = max(least, 1) + held[target, id]
            if not least <= counts[id] <= most:
                raise Broken(f"{target} got {id} {counts[id]} times, not {least} to {most} times")
    for delivery in stage.sink.deliveries:
        delivery.verify(SECRET)
        if delivery.event["id"] != delivery.id:
            raise Broken(f"{delivery.target} got {delivery.event['id']} as {delivery.id}")


def _order(stage: Stage) -> None:
    came: dict[str, list[str]] = {}
    for delivery in stage.sink.of("ordered"):
        came.setdefault(delivery.event["subject"], []).append(delivery.id)
    for transaction, ids in came.items():
        if ids != sorted(ids):
            raise Broken(f"transaction {transaction} came out of order: {ids}")


def _quiet(stage: Stage) -> None:
    """No process met an error of its own making on the way."""
    for line in stage.log.read_text(errors="replace").splitlines():
        if "Traceback" in line or ('"level":"error"' in line and "target disabled" not in line):
            raise Broken(f"a process said: {line}")


# -- commands


COMMANDS = ("replay", "replay-since", "admit", "admit-all")


class Commands:
    """Commands of `headrace`: killed, said again, and then what they sent is delivered."""

    def __init__(self, stage: Stage) -> None:
        """Play the worker's part once; each run begins where that ended."""
        worker(stage, [])
        self._saved = stage.save()
        self._before = now = state.read(stage.redis, SOURCES)
        self._receipts = [Sent("", b"", id) for id in {*now.events, *now.duplicates, *now.quarantined}]
        self._copy = min(id for id, copy in now.duplicates.items() if copy["of"] in now.events)
        self._argv = {
            "replay": ["replay", "--dead-letters", "failing"],
            "replay-since": ["replay", "--since", "1h", "--source", ORDERS],
            "admit": ["admit", self._copy],
            "admit-all": ["admit", "--all"],
        }

    def play(
        self, stage: Stage, name: str, kills: Sequence[str], *, cold: bool = False, record: Path | None = None
    ) -> int:
        """Play one of COMMANDS."""
        stage.begin(cold=cold)
        stage.restore(self._saved)
        stage.sink.answers = {"gone": lambda *_: 410}
        deaths = 0
        for kill in [*kills, None]:
            process = stage.start("headrace", *self._argv[name], "--yes", kill=kill, record=record)
            code = process.ended(PATIENCE_S)
            check(stage, self._receipts, f"after the command, which ended with {code}")
            if code == 0:
                break
            if code != -signal.SIGKILL or kill is None:
                raise Broken(f"headrace {name} ended with {code}: {stage.tail()}")
            deaths += 1
        stage.work()
        now = check(stage, self._receipts, "in the end")
        sent = Counter((each.target, each.id) for each in stage.sink.deliveries)
        if sent != (wanted := self._wanted(name, now)):
            raise Broken(f"it sent {sent - wanted} too much, and {wanted - sent} too little")
        _order(stage)
        _quiet(stage)
        return deaths

    def _wanted(self, name: str, now: state.State) -> Counter[tuple[str, str]]:
        """What the targets get, once each."""
        if name == "replay":
            return Counter(("failing", id) for id in self._before.dead["failing"])
        if name == "admit-all":
            return Counter()
        events = [self._copy] if name == "admit" else [id for id in now.events if of_source(id, ORDERS)]
        missing: dict[str, str] = {}
        return Counter(
            (target, id)
            for id in events
            for target in now.events.get(id, missing).get("targets", "nowhere").split(",")
            if target != "gone"  # it is disabled
        )


# -- ingress


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
