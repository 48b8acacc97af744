"""`python -m tests.soak MINUTES [--seed N] [--rate R] [--json FILE]`: what `deploy/soak` runs.

Exit codes: 0 every accepted event is accounted for and nothing leaked, 1 not so, 2 the call is wrong.
"""

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from tests.conftest import MEMORY
from tests.soak.report import show
from tests.soak.run import soak


def main() -> int:
    options = arguments(sys.argv[1:])
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    seed = options.seed or str(secrets.randbelow(10**8))
    console.print(f"soak of {options.minutes:g} min at {options.rate:g} requests/s, seed {seed}")
    # A folder with a short name: a socket's path has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="hr-soak-", dir=MEMORY))
    report = None
    try:
        report = soak(folder, options.minutes, options.rate, seed, console)
    finally:
        if report is not None and report.sound:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"logs and records are left in {folder}", markup=False, soft_wrap=True)
    show(report, console)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0 if report.sound else 1


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description="Runs the gateway under load and kills.")
    parser.add_argument("minutes", type=_positive, metavar="MINUTES")
    parser.add_argument("--seed", help="make the same choices by chance as the run that printed it")
    parser.add_argument("--rate", type=_positive, default=20.0, help="requests a second (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the reconciliation there")
    options = parser.parse_args(argv)
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: {options.json.absolute().parent} is no folder")
    return options


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and below 10,000")
    return value


if __name__ == "__main__":
    sys.exit(main())
