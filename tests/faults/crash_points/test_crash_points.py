"""A process may be killed before, amid and after each thing that it says to Redis or to a target, and nothing is
lost, doubled or in two places. The points are found by playing: a new one is covered by being there."""

import inspect
from collections.abc import Iterator
from importlib import import_module

import pytest

from tests.faults.crash_points.hook import ROOT, SCRIPTS
from tests.faults.crash_points.runs import Troupe, new_seed, report

PAIRS = 20

INCLUDED = dict.fromkeys(
    ("admission", "bell", "breaker", "copies", "dedupe", "lanes"), "a text that other scripts include"
) | {
    "drop_queued": "only for what is no doorbell of ours; doorbells may be lost",
}
"""Scripts that no play comes to, and why."""

MOVES = "tests/integration/test_shares.py breaks each move to the disk and back off between its steps"
SHARES = dict.fromkeys(("shares", "leave", "come_back", "discard", "discard_quarantined"), MOVES)
"""Scripts that need a target past its share of memory, or an operator who discards."""

ERASURE = {"erase": "tests/integration/test_erase.py breaks an erasure off, and the next one finishes it"}

LISTINGS = {"records", "dead_letters", "deliveries", "transactions", "shares"}
"""Modules of the store that only read, for people."""

BELOW = {"client", "connection"}
"""Modules that all others of the store speak through."""

APART = {"letters", "sources", "erasing"}
"""Modules whose steps are broken off in test_shares.py, of tests/integration and of tests/acceptance, and in
tests/integration/test_erase.py.
"""

NOT_PLAYED = {
    "bells.Bells.drop_queued": "only for what is no doorbell of ours; doorbells may be lost",
    "finished.Finished.whole": "an export only reads",
    "inbox.Inbox.backlogs": "ingress only reads, once a second, while it is busy",
    "upkeep.Upkeep.holding": "it only reads, if memory stays full",
    "upkeep.Upkeep.now_ms": "it asks for the time",
    "upkeep.Upkeep.unknown": "a listing",
}
"""Functions of the store that no play comes to, and why."""


@pytest.fixture(scope="module")
def troupe() -> Iterator[Troupe]:
    troupe = Troupe()
    yield troupe
    troupe.close()


def offered() -> set[str]:
    """The coroutines of the store's classes, listings left out, as a record names them."""
    found = set()
    for name in {file.stem for file in (ROOT / "shared/store").glob("*.py")} - LISTINGS - BELOW - APART:
        module = import_module(f"shared.store.{name}")
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__:
                found |= {
                    f"{name}.{function.__qualname__}"
                    for function in vars(kind).values()
                    if inspect.iscoroutinefunction(function)
                }
    return found


def test_the_plays_come_to_every_script_and_every_function_of_the_store(troupe: Troupe) -> None:
    records = troupe.record().values()
    operations = {operation for record in records for operation in record.operations}
    assert set(SCRIPTS) - operations == {*INCLUDED, *SHARES, *ERASURE}, (
        "let a play come to it, or say here why none can"
    )

    come_to = {method for record in records for method in record.methods}
    assert offered() - come_to <= set(NOT_PLAYED), "let a play come to it, or say here why none can"

    points = set(troupe.record()["worker"].points)
    targets = ("healthy", "slow", "flaky", "failing", "gone", "ordered")
    network = {"brpop in kombu", "connect to a target", *(f"POST /{name}" for name in targets)}
    assert {f"{what}:{side}" for what in network for side in ("before", "after")} <= points
    move = {"commit in writer.Writer._write:after", "archived in archiving.Archiving._move_events:before"}
    assert move <= set(troupe.record()["archive"].points), "between what is archived and what leaves Redis"
    assert "settle in deliver.Deliverer._round_trip:after" in troupe.record()["stop"].points, "it hands back"


@pytest.mark.timeout(900)
def test_a_kill_at_any_point_loses_nothing_and_doubles_nothing(troupe: Troupe) -> None:
    results = troupe.play(troupe.every_point())
    assert not (wrong := report(results)), wrong
    sure = {
        (play, f"{point}#1")
        for play, record in troupe.record().items()
        for point in record.steady
        if play != "stop"  # what else happens just then is chance
    }
    missed = [str(r.run) for r in results if not r.deaths and (r.run.play, r.run.kills[0]) in sure]
    assert not missed, f"points that were recorded each time, and not come to again: {missed}"
    print(f"{len(results)} kills, {sum(not result.deaths for result in results)} points not come to again")


@pytest.mark.timeout(900)
def test_two_kills_at_random_points_lose_nothing_and_double_nothing(troupe: Troupe) -> None:
    seed = new_seed()
    results = troupe.play(troupe.pairs(PAIRS, seed))
    wrong = report(results)
    again = f"all: python -m tests.faults.crash_points --pairs {PAIRS} --seed {seed}"
    assert not wrong, f"{wrong}\n{again}"
    assert sum(result.deaths for result in results) > PAIRS, "most processes died at their points"
    print(f"seed {seed}: {sum(result.deaths for result in results)} kills")
