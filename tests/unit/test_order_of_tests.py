"""The suite in parallel: no process is left with the longest tests at the end."""

import ast

import pytest

from tests.conftest import LONGEST, spread
from tests.documents.markers import ROOT

LONG = [name for together in LONGEST for name in together]
NAMES = [*(f"test_{number}" for number in range(20)), *reversed(LONG)]


@pytest.mark.parametrize("processes", [2, 3, 4, 6, 8])
def test_each_process_begins_with_some_of_the_longest(processes: int) -> None:
    ordered = spread(NAMES, processes, str)
    assert sorted(ordered) == sorted(NAMES)
    begins, left = [], len(NAMES)
    for number in range(processes):
        begins.append(len(NAMES) - left)
        left -= left // (processes - number)
    assert {ordered[begin] for begin in begins} >= {together[0] for together in LONGEST[:processes]}
    text = " ".join(ordered)
    assert all(" ".join(together) in text for together in LONGEST), "one process has what shares its setup"
    others = [name for name in ordered if name not in LONG]
    assert others == NAMES[:20], "the rest stays in its order, as tests of one file share what they set up"


def test_what_is_called_long_is_there() -> None:
    names = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert names >= set(LONG)
