"""README.md's provider page, made from the adapters' mappings."""

import re
import tomllib
from pathlib import Path

import pytest

from shared.event.canonical import STATUS_OF, Money
from shared.providers import ADAPTERS
from tests.mapping import filled_in, main, table
from tests.unit.sources import PAYLOADS, read, source

README = Path(__file__).parents[2] / "README.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_provider_page_is_current() -> None:
    page = README.read_text()
    assert filled_in(page) == page, "bring it up to date: python -m tests.mapping"


def test_the_table_holds_every_row_of_every_mapping() -> None:
    rows = {line.split("|")[1].strip(" `"): line for line in table().splitlines()[2:]}
    assert list(rows) == list(STATUS_OF)
    for adapter in ADAPTERS.values():
        for name, type_ in adapter.mapping.items():
            assert f"`{name}`" in rows[type_]


def test_writing_it_twice_changes_nothing_and_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- providers:begin -->\nold\n<!-- providers:end -->\nafter\n")
    main(str(page))
    once = page.read_text()
    main(str(page))
    assert page.read_text() == once
    assert once == filled_in("before\n<!-- providers:begin --><!-- providers:end -->\nafter\n")
    with pytest.raises(ValueError, match="providers:begin"):
        filled_in("no markers")


def test_the_configurations_that_the_readme_shows_are_read() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text(), re.S)
    shown = [block for block in blocks if "body." in block]
    assert len(shown) == 2
    for block in shown:
        text = block if "[[sources]]" in block else f'[[sources]]\nname = "upstream"\n{block}'
        [table] = tomllib.loads(text)["sources"]
        source(**table | {"provider": "standard-webhooks", "secrets": [SECRET]})
    billing = source(**tomllib.loads(shown[0])["sources"][0] | {"secrets": [SECRET]})
    event = read(billing, (PAYLOADS / "standard-webhooks" / "invoice-paid.json").read_bytes())
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
