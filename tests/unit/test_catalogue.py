"""Every case of the fault catalogue has a test, and the README's table names it."""

from pathlib import Path

import pytest

from tests.catalogue import CASES, ROOT, filled_in, marked


def test_every_case_has_a_test_and_every_mark_a_case() -> None:
    assert list(CASES) == list(range(1, len(CASES) + 1))
    assert set(marked()) == set(CASES)


def test_the_readme_names_the_tests_of_every_case() -> None:
    page = (ROOT / "README.md").read_text()
    assert filled_in(page) == page, "bring it up to date: python -m tests.catalogue"


def test_the_marks_that_are_read_are_those_that_pytest_selects_by(request: pytest.FixtureRequest) -> None:
    """Of the tests that pytest has collected in this run: each mark stands in the table."""
    listed = {(path, name, number) for number, tests in marked().items() for path, name in tests}
    for item in request.session.items:
        for mark in item.iter_markers("case"):
            path = Path(item.path).relative_to(ROOT)
            assert (path, item.name.partition("[")[0], mark.kwargs["n"]) in listed
