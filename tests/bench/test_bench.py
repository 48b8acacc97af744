"""What the benchmarks say of what they measured. They themselves do not run here."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.bench.__main__ import NAMES
from tests.bench.guard import SHARE, guard, judge
from tests.bench.plot import NoPlot, refuse
from tests.bench.report import Goal, Report, Result, number, read_json, write_json


@pytest.mark.parametrize(
    ("goal", "value", "says"),
    [
        (Goal(0.9, 1.0), 1.0, "aim"),
        (Goal(0.9, 1.0), 0.99, "yes"),
        (Goal(0.9, 1.0), 0.89, "no"),
        (Goal(25, 10, upwards=False), 10, "aim"),
        (Goal(25, 10, upwards=False), 11, "yes"),
        (Goal(25, 10, upwards=False), 26, "no"),
        (Goal(0.9), 2.0, "yes"),
    ],
)
def test_a_goal_says_what_is_reached(goal: Goal, value: float, says: str) -> None:
    assert goal.reached(value) == says


def test_a_ratio_holds_each_round_against_its_neighbour() -> None:
    result = Result("x", "")
    figure = result.add_ratio("ours ÷ theirs", [100, 10, 90], [50, 10, 30], Goal(1.5))
    assert figure.rounds == [2, 1, 3]
    assert figure.median == 2
    with pytest.raises(ValueError, match="zip"):
        result.add_ratio("uneven", [1, 2], [1])


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346 ms"), (12.34, "12.3 ms"), (1.234, "1.23 ms"), (0, "0 ms")]
)
def test_a_figure_has_as_many_digits_as_mean_something(value: float, text: str) -> None:
    assert number(value, "ms") == text


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = Result("x", "about")
    result.add("p99", "ms", [1.5, 2.5], Goal(25, 10, upwards=False))
    write_json(Report({"redis": "7"}, [result]), tmp_path / "report.json")
    assert read_json(tmp_path / "report.json") == Report({"redis": "7"}, [result])


def found(*ratios: float) -> Result:
    result = Result("x", "")
    for place, ratio in enumerate(ratios):
        result.add(f"ratio-{place}", "×", [ratio], Goal(1.0, 2.0))
    result.add("a time", "ms", [10**6], Goal(1))
    result.add("less is better", "×", [10**6], Goal(1, upwards=False))
    result.add("no goal", "×", [0.001])
    return result


def test_the_guard_looks_at_ratios_with_a_goal_alone() -> None:
    [verdict] = judge(found(0.8))
    assert (verdict.name, verdict.bound, verdict.holds) == ("x ratio-0", SHARE, True)
    [verdict] = judge(found(SHARE - 0.01))
    assert not verdict.holds


@pytest.mark.parametrize(
    ("runs", "holds", "taken"),
    [
        ([(0.8, 0.8)], [True, True], 1),
        ([(0.8, 0.5), (0.6, 0.9)], [True, True], 2),
        ([(0.8, 0.5), (0.9, 0.6)], [True, False], 2),
    ],
)
def test_the_guard_measures_once_more_before_it_fails(
    runs: list[tuple[float, ...]], holds: list[bool], taken: int
) -> None:
    left = [found(*ratios) for ratios in runs]
    verdicts = guard(lambda: left.pop(0))
    assert [verdict.holds for verdict in verdicts] == holds
    assert len(runs) - len(left) == taken


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_is_there(name: str) -> None:
    assert callable(import_module(f"tests.bench.{name.replace('-', '_')}").main)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "no such benchmark: nonsense"),
        (["--plot", "plot.gif"], "plot.gif: the name must end in .png or .svg"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_runs(arguments: list[str], says: str) -> None:
    argv = [sys.executable, "-m", "tests.bench", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr


def test_a_plot_needs_a_folder_and_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoPlot, match="no such folder"):
        refuse(tmp_path / "nowhere" / "plot.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NoPlot, match="deploy/bench"):
        refuse(tmp_path / "plot.png")
