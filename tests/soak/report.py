"""What a soak says in the end."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from tests.soak.chaos import Deed
from tests.soak.reconcile import Reconciliation
from tests.soak.watch import Memory

SHOWN = 50


class Report(msgspec.Struct):
    """All of it; what `--json` writes. `failures` are what is wrong beside the events."""

    seed: str
    minutes: float
    rate: float
    redis: str
    drained_s: float | None
    reconciliation: Reconciliation
    memory: dict[str, Memory]
    log_errors: dict[str, int]
    failures: list[str]
    deeds: list[Deed]

    @property
    def sound(self) -> bool:
        """Whether everything is accounted for, and nothing else is wrong."""
        return not self.failures and not self.reconciliation.problems


def show(report: Report, console: Console) -> None:
    """Print the tables, then what is wrong, or that nothing is."""
    result = report.reconciliation
    console.print()
    sent = (result.requests, result.messages, result.accepted, result.only_answered)
    answers = (result.refused, result.unavailable, result.unanswered)
    _print(
        console,
        ("Requests", "Messages", "200", "200, nothing to keep", "401, 404", "503", "No answer"),
        [(*sent, *answers)],
    )
    _print(
        console,
        ("Admitted", "Duplicates", "Quarantined", "Held without a 200"),
        [(result.admitted, result.duplicates, result.quarantined, result.unanswered_held)],
    )
    _print(
        console,
        ("Target", "Expected", "Delivered", "Dead", "Requests", "Repeats", "Overtaken repeats"),
        [
            (name, at.expected, at.delivered, at.dead, at.requests, at.repeats, at.overtaken)
            for name, at in result.targets.items()
        ],
    )
    _print(
        console,
        ("RSS, MiB", "First", "Last", "Most"),
        [(kind, memory.first, memory.last, memory.most) for kind, memory in report.memory.items()],
    )
    if report.log_errors:
        _print(console, ("Errors in the log", "Lines"), list(report.log_errors.items()))
    for failure in report.failures:
        console.print(f"WRONG: {failure}", style="red", markup=False, soft_wrap=True)
    for problem in result.problems[:SHOWN]:
        text = f"WRONG: {problem.id}: {problem.what} [{problem.where}]"
        console.print(text, style="red", markup=False, soft_wrap=True)
    if len(result.problems) > SHOWN:
        console.print(f"… and {len(result.problems) - SHOWN} more (--json has all)")
    if report.sound:
        drained = f"drained {report.drained_s:.0f} s after the last request" if report.drained_s else ""
        console.print(
            f"All accounted for: {result.accepted} answered 200, {len(report.deeds)} disturbances, {drained}"
            f" (seed {report.seed})",
            markup=False,
        )
    else:
        console.print(f"NOT all is well (seed {report.seed})", style="red", markup=False)


def _print(console: Console, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(head):
        table.add_column(title, justify="right" if number or len(rows) == 1 else "left")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    console.print(table)
    console.print()
