"""What a benchmark found, and how it is shown: figures in a table, lines for a plot, all of it as JSON."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table


class Goal(msgspec.Struct, frozen=True):
    """What a figure must reach, and what it aims at. `upwards`: more is better."""

    at_least: float
    aim: float | None = None
    upwards: bool = True

    def reached(self, value: float) -> str:
        """Return `aim`, `yes` or `no`."""

        def holds(bound: float) -> bool:
            return value >= bound if self.upwards else value <= bound

        if self.aim is not None and holds(self.aim):
            return "aim"
        return "yes" if holds(self.at_least) else "no"


class Figure(msgspec.Struct):
    """One figure: the median over the rounds, which stand beside it."""

    name: str
    unit: str
    rounds: list[float]
    goal: Goal | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


class Chart(msgspec.Struct):
    """What to draw: lines (name → points) or bars (name → height). `log_x` where x spans magnitudes."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]] = {}
    bars: dict[str, float] = {}
    log_x: bool = False


class Result(msgspec.Struct):
    """What one benchmark found."""

    name: str
    about: str
    figures: list[Figure] = []
    charts: list[Chart] = []
    notes: list[str] = []
    """Lines to show beneath the figures."""

    def add(self, name: str, unit: str, rounds: Sequence[float], goal: Goal | None = None) -> Figure:
        figure = Figure(name, unit, list(rounds), goal)
        self.figures.append(figure)
        return figure

    def add_ratio(
        self, name: str, over: Sequence[float], under: Sequence[float], goal: Goal | None = None
    ) -> Figure:
        """Add a ratio of two that were measured in turns: each round is held against its own neighbour."""
        return self.add(name, "×", [a / b for a, b in zip(over, under, strict=True)], goal)

    def figure(self, name: str) -> Figure:
        [found] = [figure for figure in self.figures if figure.name == name]
        return found


class Report(msgspec.Struct):
    """A whole run: the machine it ran on, and what was found."""

    machine: dict[str, str]
    results: list[Result]


def show(result: Result, console: Console) -> None:
    """Print a benchmark's figures."""
    table = Table(title=f"{result.name}: {result.about}", title_justify="left", title_style="bold")
    for column in ("figure", "median", "rounds", "at least", "aim", "reached"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for figure in result.figures:
        goal = figure.goal
        table.add_row(
            figure.name,
            number(figure.median, figure.unit),
            " ".join(number(value) for value in figure.rounds) if len(figure.rounds) > 1 else "",
            number(goal.at_least, figure.unit) if goal else "",
            number(goal.aim, figure.unit) if goal and goal.aim is not None else "",
            goal.reached(figure.median) if goal else "",
        )
    console.print(table)
    for note in result.notes:
        console.print(note, highlight=False, markup=False)


def number(value: float, unit: str = "") -> str:
    """Return a figure with as many digits as mean something."""
    text = (
        f"{value:,.0f}"
        if abs(value) >= 100 or value == 0
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )
    return f"{text} {unit}".rstrip()


def write_json(report: Report, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read_json(path: Path) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)
