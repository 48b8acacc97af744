"""Runs: which play, killed where; recorded, chosen, and played on several stages at once."""

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tests.faults.crash_points.archiving import archive
from tests.faults.crash_points.changes import Changes
from tests.faults.crash_points.commands import COMMANDS, Commands
from tests.faults.crash_points.intake import ingress
from tests.faults.crash_points.plays import stop, worker
from tests.faults.crash_points.stage import Stage

ALONE = {"worker": worker, "stop": stop, "ingress": ingress}
ARCHIVE = "archive"
PLAYS = (*ALONE, *COMMANDS, ARCHIVE)
STAGES = 3  # most of a run is waiting
AGAIN = 3


class Run(NamedTuple):
    """A play, and where one process of it after another is killed: `<point>#<its how manieth time>`."""

    play: str
    kills: tuple[str, ...]

    def __str__(self) -> str:
        return " | ".join([self.play, *self.kills])

    @classmethod
    def parse(cls, text: str) -> "Run":
        """Read what `str` writes. Raises: ValueError."""
        play, *kills = (part.strip() for part in text.split("|"))
        if play not in PLAYS or not all(
            re.fullmatch(r".+:(before|amid|after)#[1-9]\d*", kill) for kill in kills
        ):
            raise ValueError(text)
        return cls(play, tuple(kills))


class Record(NamedTuple):
    """What a play comes to: each point how often, which of them every time, and the store's functions."""

    points: Counter[str]
    steady: set[str]
    methods: set[str]

    @property
    def operations(self) -> set[str]:
        """The commands and scripts."""
        whats = {point.partition(" in ")[0] for point in self.points}
        return {name for what in whats for name in what.split("+")}


class Result(NamedTuple):
    """What came of a run: how many processes died at their points, or what was wrong ('' for nothing)."""

    run: Run
    deaths: int
    wrong: str


class Troupe:
    """Several stages, and everything that is played on them."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        for _ in range(STAGES):
            self.stages.append(Stage())
        self._commands: dict[Stage, Commands] = {}
        self.records: dict[str, Record] = {}

    def close(self) -> None:
        for stage in self.stages:
            stage.close()

    def record(self) -> dict[str, Record]:
        """Play each play without a kill, twice, and remember all that it comes to. Once."""
        if not self.records:
            for play in PLAYS:
                first, second = (self._recorded(play, cold=cold) for cold in (True, False))
                # How often is a matter of timing: who wants a later time than there is kills nobody.
                points = first.points | second.points
                steady = set(first.points) & set(second.points)
                self.records[play] = Record(points, steady, first.methods | second.methods)
        return self.records

    def _recorded(self, play: str, *, cold: bool) -> Record:
        stage = self.stages[0]
        file = stage.folder / "record"
        file.write_text("")
        self._play(stage, Run(play, ()), cold=cold, record=file)
        points, methods = Counter[str](), set[str]()
        for line in file.read_text().splitlines():
            point, *through = line.split("\t")
            points[point] += 1
            methods.update(through)
        return Record(points, set(points), methods)

    def _play(self, stage: Stage, run: Run, *, cold: bool, record: Path | None = None) -> int:
        if play := ALONE.get(run.play):
            return play(stage, run.kills, cold=cold, record=record)
        if stage not in self._commands:
            self._commands[stage] = Commands(stage)
        if run.play == ARCHIVE:
            return archive(stage, self._commands[stage], run.kills, cold=cold, record=record)
        return self._commands[stage].play(stage, run.play, run.kills, cold=cold, record=record)

    def result(self, stage: Stage, run: Run) -> Result:
        """Play a run; again where its first point was not come to: by timing, or as scripts were known."""
        deaths, cold = 0, any("script load" in kill for kill in run.kills)
        for attempt in range(AGAIN):
            try:
                deaths = self._play(stage, run, cold=cold ^ bool(attempt % 2))
            except AssertionError as error:
                return Result(run, deaths, str(error) or repr(error))
            if deaths:
                break
        return Result(run, deaths, "")

    def play(self, runs: Iterable[Run], tell: Callable[[Result], object] = lambda _: None) -> list[Result]:
        """Play runs, as many at once as there are stages."""
        free: SimpleQueue[Stage] = SimpleQueue()
        for stage in self.stages:
            free.put(stage)

        def one(run: Run) -> Result:
            stage = free.get()
            try:
                result = self.result(stage, run)
            finally:
                free.put(stage)
            tell(result)
            return result

        with ThreadPoolExecutor(len(self.stages)) as pool:
            return list(pool.map(one, runs))

    def every_point(self) -> list[Run]:
        """A kill at each point that was recorded, the first time that it is come to.

        Of who only reads something, one in all plays: after the reply. Whatever he does before that, or amid
        it, or in another play, what he leaves behind is what the last change left, and that has a kill of its own.
        In the archive's play, only at points that the worker's has not: all others are killed there.
        """
        changes, read = Changes(self.stages[0].redis), set[str]()
        runs = []
        for play, record in self.record().items():
            for point in sorted(record.points):
                operation, _, side = point.rpartition(":")
                if play == ARCHIVE and point in self.record()["worker"].points:
                    continue
                if not changes.made_by(operation.partition(" in ")[0]):
                    if side != "after" or operation in read:
                        continue
                    read.add(operation)
                runs.append(Run(play, (f"{point}#1",)))
        return runs

    def pairs(self, count: int, seed: int) -> list[Run]:
        """Kills in pairs: at a point at any of its times, and, once started again, at any other."""
        chance = random.Random(seed)
        candidates = [
            (play, point) for play, record in self.record().items() for point in sorted(record.points)
        ]
        runs = []
        for play, point in (chance.choice(candidates) for _ in range(count)):
            points = self.record()[play].points
            second = chance.choice(sorted(points))
            kills = (f"{name}#{chance.randint(1, points[name])}" for name in (point, second))
            runs.append(Run(play, tuple(kills)))
        return runs


def report(results: Sequence[Result]) -> str:
    """Say what was wrong, and how to play it again."""
    lines = [
        f"{result.run}\n    {result.wrong}\n    again: python -m tests.faults.crash_points '{result.run}'"
        for result in results
        if result.wrong
    ]
    return f"{len(lines)} of {len(results)} runs went wrong:\n" + "\n".join(lines) if lines else ""


def new_seed() -> int:
    """A seed that is another each time."""
    return time.time_ns() % 1_000_000
