"""`python -m tests.bench NAME …`: measures, and says on what."""

import argparse
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench.machine import describe
from tests.bench.plot import NoPlot, draw, refuse
from tests.bench.report import Report, Result, show, write_json
from tests.bench.run import Run

NAMES = (
    "ingest",
    "deliver",
    "end-to-end",
    "trickle",
    "fair",
    "retries",
    "scale",
    "storm",
    "archive",
    "archiving",
)


def main() -> int:
    """Run benchmarks. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(NAMES)} (all)")
    parser.add_argument(
        "--rounds", type=int, help="how many rounds, of which medians are taken (5; 3 with --short)"
    )
    parser.add_argument("--short", action="store_true", help="less of everything: a glance, and for CI")
    parser.add_argument("--folder", type=Path, help="where Redis keeps its data (the temporary folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was found")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw what was found: PNG or SVG by the name"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if options.plot:
        try:
            refuse(options.plot)
        except NoPlot as error:
            parser.error(str(error))
    for number in (signal.SIGINT, signal.SIGTERM):
        # Both end what was started; a shell has its background jobs ignore the first.
        signal.signal(number, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else 120)
    machine = describe(options.folder)
    for key, value in machine.items():
        console.print(f"{key:10} {value}", highlight=False)
    report = Report(machine, [])
    try:
        for name in options.names or NAMES:
            report.results.append(measure(name, options))
            show(report.results[-1], console)
    except KeyboardInterrupt:
        console.print("interrupted: all that was started has ended")
        return 130
    finally:
        # What was found until then, too.
        if options.json:
            write_json(report, options.json)
    if options.plot:
        draw(report, options.plot)
    return 0


def measure(name: str, options: argparse.Namespace) -> Result:
    """Run one benchmark by its name, showing on standard error how far it is."""
    benchmark: Callable[[Run], Result] = import_module(f"tests.bench.{name.replace('-', '_')}").main
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        run = Run(progress, rounds=options.rounds, short=options.short, folder=options.folder)
        return benchmark(run)


if __name__ == "__main__":
    sys.exit(main())
