"""The play of the archive: a worker is killed while it moves what has finished there."""

from collections.abc import Sequence
from pathlib import Path

from tests.faults.crash_points import state
from tests.faults.crash_points.commands import Commands
from tests.faults.crash_points.plays import Broken, quiet
from tests.faults.crash_points.scenario import SOURCES
from tests.faults.crash_points.stage import Stage
from tests.faults.crash_points.state import KEYS
from tests.faults.invariants import Record, archived


def archive(
    stage: Stage, after: Commands, kills: Sequence[str], *, cold: bool = False, record: Path | None = None
) -> int:
    """Begin where the worker's play ended, with an archive; kill a worker, and the next one …, then let one go on."""
    stage.begin(cold=cold, archive=True)
    stage.restore(after.saved)
    deaths = 0
    for kill in kills:
        if not stage.work(kill=kill, ended=lambda: _moved(stage)):
            break
        deaths += 1
        _check(stage, after, "right after the kill")
        stage.age()
    stage.work(record=record, ended=lambda: _moved(stage))
    now = _check(stage, after, "in the end")
    stay = {id for id, event in after.before.events.items() if event["open"] != "0"}
    if {*now.events} != stay or now.duplicates:
        raise Broken(f"what has finished leaves Redis, and nothing else: {sorted({*now.events} ^ stay)}")
    if stage.sink.deliveries:
        raise Broken("what moves is not sent again")
    quiet(stage)
    return deaths


def _moved(stage: Stage) -> bool:
    sets = (KEYS.finished, KEYS.packed, KEYS.duplicates)
    return not any(stage.redis.zcard(key) for key in sets) and not stage.redis.exists(KEYS.audit)


def _check(stage: Stage, after: Commands, when: str) -> state.State:
    """Each is in Redis as it was, or in the archive as it was; never in neither."""
    now = state.read(stage.redis, SOURCES)
    events, copies = archived(stage.archive_url)
    there = {each.id for each in events} | {each.id for each in copies}
    here = {*now.events, *now.duplicates, *now.quarantined}
    wrong = state.problems(now, {each.id for each in after.receipts} - (there - here))
    for event in events:
        before = after.before.events.get(event.id, {})
        ends = {name: text for name, text in before.items() if name.startswith("end:")}
        if ends != {f"end:{target}": end for target, end in event.ends.items()}:
            wrong.append(f"{event.id} ended as {ends}, and is archived as {event.ends}")
        if (before["digest"], before["open"]) != (event.text("digest"), "0"):
            wrong.append(f"{event.id} is archived with another body, or open")
    for copy in copies:
        if after.before.duplicates[copy.id]["of"] != copy.copy_of:
            wrong.append(f"{copy.id} is archived as a copy of {copy.copy_of}")
    kept = Record(stage.redis, stage.archive_url)
    wrong += [lost for each in after.receipts if (lost := kept.lost(each.id, {}, ()))]
    if wrong:
        raise Broken(f"{when}: " + "; ".join(wrong))
    return now
