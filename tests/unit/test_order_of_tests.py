"""The suite in parallel: no process is left with the longest tests at the end."""

import ast

import pytest

from tests.conftest import LONGEST, spread
from tests.documents.markers import ROOT

NAMES = [*(f"test_{number}" for number in range(20)), *reversed(LONGEST)]


@pytest.mark.parametrize("processes", [2, 3, 4, 6, 8])
def test_each_process_begins_with_some_of_the_longest(processes: int) -> None:
    ordered = spread(NAMES, processes, str)
    assert sorted(ordered) == sorted(NAMES)
    begins, left = [], len(NAMES)
    for number in range(processes):
        begins.append(len(NAMES) - left)
        left -= left // (processes - number)
    assert {ordered[begin] for begin in begins} >= set(LONGEST[:processes])
    others = [name for name in ordered if name not in LONGEST]
    assert others == NAMES[:20], "the rest stays in its order, as tests of one file share what they set up"


def test_what_is_called_long_is_there() -> None:
    names = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert names >= set(LONGEST)
