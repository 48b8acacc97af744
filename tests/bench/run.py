"""How a benchmark runs: how many rounds, how long, where; and what shows that it goes on."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.progress import Progress

T = TypeVar("T")

TURNS = 4
"""Of how many short turns a round is made where two are held against each other: a shared machine changes its
speed from one second to the next, and each of the two must get its part of that."""


class Run:
    """The settings of one run. `folder` is where Redis keeps its data (None: the temporary folder)."""

    def __init__(self, progress: Progress, *, rounds: int | None, short: bool, folder: Path | None) -> None:
        self._progress = progress
        self._rounds = rounds or (3 if short else 5)
        self.short = short
        self.folder = folder

    def rounds(self, name: str) -> Iterator[int]:
        """Count the rounds, with a progress bar."""
        yield from self.each(range(self._rounds), name)

    def each(self, items: Iterable[T], name: str) -> Iterator[T]:
        """Go through some items, with a progress bar."""
        listed = list(items)
        task = self._progress.add_task(name, total=len(listed))
        for item in listed:
            yield item
            self._progress.advance(task)

    def seconds(self, seconds: float) -> float:
        """Return how long to measure where a full run measures for `seconds`."""
        return seconds / 2 if self.short else seconds

    def count(self, count: int) -> int:
        """Return how many to measure with where a full run takes `count`."""
        return count // 4 if self.short else count
