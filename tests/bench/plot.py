"""Draws what a run found: `--plot FILE`, PNG or SVG by the name.

`python -m tests.bench.plot RUN.json … FILE` draws what runs before wrote with `--json`, in one picture.
"""

import math
import sys
from pathlib import Path
from typing import Any

from tests.bench.report import Chart, Report, number, read_json

OURS, THEIRS = "#1f5fa8", "#b9c2cc"
COLOURS = (OURS, "#d9822b", "#7a3e9d", "#2e8b57")
INK, FAINT = "#222222", "#dddddd"
KINDS = (".png", ".svg")
SLOTS = 3


class NoPlot(Exception):
    """Nothing can be drawn, and why."""


def refuse(path: Path) -> None:
    """Find out before an hour of measuring. Raises: NoPlot."""
    if path.suffix not in KINDS:
        raise NoPlot(f"{path}: the name must end in {' or '.join(KINDS)}")
    if not path.absolute().parent.is_dir():
        raise NoPlot(f"{path}: there is no such folder")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NoPlot("a plot needs matplotlib, which deploy/bench installs") from None


def draw(report: Report, path: Path) -> None:
    """Draw all charts of a report. Raises: NoPlot."""
    refuse(path)
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    charts = [chart for result in report.results for chart in result.charts]
    if not charts:
        raise NoPlot("nothing that was measured has a chart")
    style = {"font.size": 11, "axes.edgecolor": FAINT, "text.color": INK, "svg.fonttype": "none"}
    with pyplot.rc_context(style):
        columns = min(len(charts), 3)
        rows = math.ceil(len(charts) / columns)
        figure, axes = pyplot.subplots(
            rows, columns, figsize=(5.2 * columns, 3.8 * rows + 0.4), squeeze=False, layout="constrained"
        )
        figure.get_layout_engine().set(hspace=0.1)
        for chart, axis in zip(charts, axes.flat, strict=False):
            (_bars if chart.bars else _lines)(chart, axis)
        for axis in axes.flat[len(charts) :]:
            axis.set_visible(False)
        figure.text(0.005, 0.0, f"\n{_about(report)}", fontsize=9, color="#666666", va="top")
        figure.savefig(path, dpi=150, facecolor="white", bbox_inches="tight", pad_inches=0.25)
        pyplot.close(figure)


def _about(report: Report) -> str:
    known = report.machine
    return " · ".join(f"{key} {known[key]}" for key in ("machine", "python", "redis") if key in known)


def _plain(axis: Any, chart: Chart) -> None:
    axis.set_title(chart.title, loc="left", fontsize=13, fontweight="bold", pad=12)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(length=0, colors=INK)


def _bars(chart: Chart, axis: Any) -> None:
    """Bars that lie, the first one ours, each with its figure beside it."""
    _plain(axis, chart)
    names, values = list(chart.bars), list(chart.bars.values())
    places = range(len(names))
    bars = axis.barh(places, values, color=[OURS, *[THEIRS] * (len(names) - 1)], height=0.62)
    axis.bar_label(bars, [number(value) for value in values], padding=4)
    axis.set_yticks(places, names)
    axis.set_ylim(max(len(names), SLOTS) - 0.5, -0.5)  # downwards, and as thick as in the charts beside it
    axis.set_xlim(0, max(values) * 1.2)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.set_xlabel(chart.y)


def _lines(chart: Chart, axis: Any) -> None:
    """Lines from zero upwards, each named at its end."""
    _plain(axis, chart)
    ticks = sorted({x for points in chart.lines.values() for x, _ in points})
    if chart.log_x:
        axis.set_xscale("log")
    top = 1.15 * max(y for points in chart.lines.values() for _, y in points)
    for (_, points), colour in zip(chart.lines.items(), COLOURS, strict=False):
        axis.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=5, linewidth=2)
    if len(chart.lines) > 1:
        _name_ends(chart, axis, top)
    axis.set_ylim(0, top)
    axis.margins(x=0.1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.minorticks_off()
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel(chart.x)
    axis.set_ylabel(chart.y)


def _name_ends(chart: Chart, axis: Any, top: float) -> None:
    """Write each line's name at its end, from the lowest up, none over another."""
    free = 0.0
    ends = sorted((points[-1][1], name, points[-1][0]) for name, points in chart.lines.items())
    colours = dict(zip(chart.lines, COLOURS, strict=False))
    for y, name, x in ends:
        at = max(y, free)
        free = at + 0.07 * top
        axis.annotate(
            name,
            (x, at),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=colours[name],
            fontweight="bold",
            annotation_clip=False,
        )


if __name__ == "__main__":
    runs = [read_json(Path(name)) for name in sys.argv[1:-1]]
    draw(Report(runs[0].machine, [result for run in runs for result in run.results]), Path(sys.argv[-1]))
