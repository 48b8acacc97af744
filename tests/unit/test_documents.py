"""The pages: their generated parts are current, their links lead somewhere, their configurations are read."""

import re
import tomllib
from pathlib import Path

import pytest

from shared.event.canonical import Money
from shared.event.types import STATUS_OF
from shared.providers import ADAPTERS
from tests.documents import mapping
from tests.documents.catalogue import CASES, marked
from tests.documents.markers import RENEW, ROOT, filled_in, renewed
from tests.documents.pages import OUTPUTS, QUICK
from tests.documents.transitions import first_sentence
from tests.unit.sources import SAMPLES, read, source

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PAGES = [
    ROOT / "README.md",
    *(page for folder in ("deploy", "shared", "tests") for page in (ROOT / folder).rglob("*.md")),
]


@pytest.mark.parametrize("page", QUICK)
def test_what_is_made_from_the_code_is_current(page: str) -> None:
    text = (ROOT / page).read_text()
    assert renewed(text, QUICK[page]) == text, RENEW


def test_every_marker_has_a_writer() -> None:
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        marks = set(re.findall(r"<!-- ([a-z-]+):begin -->", page.read_text()))
        assert marks == {*QUICK.get(name, {}), *OUTPUTS.get(name, {})}, name


def test_writing_a_part_twice_changes_nothing_and_a_page_without_markers_is_refused() -> None:
    page = "before\n<!-- part:begin -->\nold\n<!-- part:end -->\nafter\n"
    once = filled_in(page, "part", "new\n")
    assert once == "before\n<!-- part:begin -->\nnew\n<!-- part:end -->\nafter\n"
    assert filled_in(once, "part", "new\n") == once
    with pytest.raises(ValueError, match="part:begin"):
        filled_in("no markers", "part", "new")


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if "://" in path:
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if heading:
            assert heading in headings(linked.read_text()), target


def headings(page: str) -> set[str]:
    """Return a page's headings, as links name them."""
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_row_of_a_table_has_as_many_cells_as_its_head(page: Path) -> None:
    block: list[int] = []
    for line in [*page.read_text().splitlines(), ""]:
        if line.startswith("|"):
            block.append(len(re.findall(r"(?<!\\)\|", line)))
            assert block[-1] == block[0], line
        else:
            block = []


def test_no_page_names_a_path_of_a_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/(work|tmp|home|root|Users)/", page.read_text()), page


# -- the tables


def test_every_case_has_a_test_and_every_mark_a_case() -> None:
    assert list(CASES) == list(range(1, len(CASES) + 1))
    assert set(marked()) == set(CASES)


def test_the_marks_that_are_read_are_those_that_pytest_selects_by(request: pytest.FixtureRequest) -> None:
    """Of the tests that pytest has collected in this run: each mark stands in the table."""
    listed = {(path, name, number) for number, tests in marked().items() for path, name in tests}
    for item in request.session.items:
        for mark in item.iter_markers("case"):
            path = Path(item.path).relative_to(ROOT)
            assert (path, item.name.partition("[")[0], mark.kwargs["n"]) in listed


def test_the_table_of_events_holds_every_row_of_every_mapping() -> None:
    rows = {line.split("|")[1].strip(" `"): line for line in mapping.table().splitlines()[2:]}
    assert list(rows) == list(STATUS_OF)
    for adapter in ADAPTERS.values():
        for name, type_ in adapter.mapping.items():
            assert f"`{name}`" in rows[type_]


def test_a_script_is_described_by_the_first_sentence_of_its_head() -> None:
    assert first_sentence("-- Ends a\n-- lease <a>. More.\nreturn 1") == "Ends a lease &lt;a>."
    with pytest.raises(ValueError, match="begins with a comment"):
        first_sentence("return 1")


# -- the configurations that pages show


def test_the_configurations_of_standard_webhooks_sources_are_read() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "shared/providers/README.md").read_text(), re.S)
    shown = [block for block in blocks if "body." in block]
    assert len(shown) == 2
    for block in shown:
        text = block if "[[sources]]" in block else f'[[sources]]\nname = "upstream"\n{block}'
        [table] = tomllib.loads(text)["sources"]
        source(**table | {"provider": "standard-webhooks", "secrets": [SECRET]})
    billing = source(**tomllib.loads(shown[0])["sources"][0] | {"secrets": [SECRET]})
    event = read(billing, SAMPLES["standard-webhooks/invoice-paid"])
    assert (event.type, event.provider_event, event.money) == (
        "payment.received",
        "invoice.paid",
        Money(104910, "GBP"),
    )
    assert (event.transaction_id, event.payment_id, event.provider_status, event.time) == (
        "in_1NqX2s",
        "ch_88310",
        "settled",
        "2026-03-02T10:01:44.123456Z",
    )
