"""The plays of a worker, killed while it works and while it stops; and what must hold after every kill."""

import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.acceptance.gateway import SECRET
from tests.faults.crash_points import scenario, state
from tests.faults.crash_points.scenario import SOURCES, Sent
from tests.faults.crash_points.stage import Stage

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


def stop(stage: Stage, kills: Sequence[str], *, cold: bool = False, record: Path | None = None) -> int:
    """Tell workers to stop with requests under way, and kill them while they hand these back."""
    stage.begin(cold=cold)
    stage.sink.answers |= {"slow": scenario.late_once}
    sent = scenario.seed(stage.server.url, stage.config)
    held: Held = Counter()
    deaths = 0
    for kill in kills or (None,):
        code = stage.stop(kill=kill, record=record)
        if code in {-signal.SIGKILL, -signal.SIGTERM}:  # the latter before Celery has its handler
            deaths += code == -signal.SIGKILL
            after_a_kill(stage, sent, held)
        elif code != 0:
            raise Broken(f"a worker that was told to stop ended with {code}: {stage.tail()}")
        elif any(check(stage, sent, "after a stop").leased.values()):
            raise Broken(f"a worker that was told to stop handed not all back: {stage.tail()}")
    stage.work()
    verify(stage, sent, held, stops=len(kills) or 1)
    return deaths


def verify(stage: Stage, sent: Sequence[Sent], held: Held, *, stops: int = 0) -> None:
    """Check the end: each event once, where it belongs; each request explained.

    A worker that was told to stop (`stops` of them) may have broken off a request of each delivery, and have
    handed that back before it was killed.
    """
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
    _requests(stage, now, held, stops)
    in_order(stage)
    quiet(stage)


def _ended_well(now: state.State, source: str, id: str) -> None:
    event = now.events[id]
    targets = set(event["targets"].split(","))
    if targets - {scenario.REMOVED} != scenario.of_targets(source):
        raise Broken(f"{id} of {source} went to {sorted(targets)}")
    for target in targets:
        end = "done" if target in scenario.DONE else "dead"
        if event.get(f"end:{target}") != end:
            raise Broken(f"{id} for {target} ended as {event.get(f'end:{target}')}, not {end}")


def _requests(stage: Stage, now: state.State, held: Held, stops: int) -> None:
    wanted = {"healthy": 1, "slow": 1, "ordered": 2, "flaky": 3, "failing": 1, "gone": 0}
    for target, least in wanted.items():
        counts = stage.sink.counts(target)
        events = {id for id, event in now.events.items() if target in event["targets"].split(",")}
        if set(counts) - events:
            raise Broken(f"{target} got what is not its: {sorted(set(counts) - events)}")
        for id in events:
            most = max(least, 1) + held[target, id] + stops
            if not least <= counts[id] <= most:
                raise Broken(f"{target} got {id} {counts[id]} times, not {least} to {most} times")
    for delivery in stage.sink.deliveries:
        delivery.verify(SECRET)
        if delivery.event["id"] != delivery.id:
            raise Broken(f"{delivery.target} got {delivery.event['id']} as {delivery.id}")


def in_order(stage: Stage) -> None:
    """Each transaction's events came one after another, none before the one ahead of it was done."""
    came: dict[str, list[str]] = {}
    for delivery in stage.sink.of("ordered"):
        came.setdefault(delivery.event["subject"], []).append(delivery.id)
    for transaction, ids in came.items():
        if ids != sorted(ids):
            raise Broken(f"transaction {transaction} came out of order: {ids}")


def quiet(stage: Stage) -> None:
    """No process met an error of its own making on the way."""
    for line in stage.log.read_text(errors="replace").splitlines():
        if "Traceback" in line or ('"level":"error"' in line and "target disabled" not in line):
            raise Broken(f"a process said: {line}")
