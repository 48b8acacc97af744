"""How long the archive keeps events: what may be written, and which months are too old then."""

import pytest

from shared.archive.expiry import Keep
from shared.archive.months import Month, named
from shared.config.check import parse_config
from shared.errors import ConfigError
from shared.settings import Config
from shared.values import Months

TRUSTIST = {"name": "bank", "provider": "trustist", "path_tokens": ["token"], "currency": "GBP"}


@pytest.mark.parametrize(("text", "months"), [("7y", 84), ("18mo", 18), ("1mo", 1), ("100y", 1200)])
def test_it_is_written_in_months_or_years(text: str, months: int) -> None:
    config = parse_config({"archive": {"keep": text}, "sources": [TRUSTIST | {"keep": text}]})
    assert config.archive.keep == config.sources[0].keep == months
    assert isinstance(config.archive.keep, Months)


def test_it_is_seven_years_unless_the_configuration_says_otherwise() -> None:
    assert Config().archive.keep == 7 * 12
    assert parse_config({"sources": [TRUSTIST]}).sources[0].keep is None


@pytest.mark.parametrize("text", ["18m", "7d", "18", "", "7 y", "1.5y", "-1y", "٣y", 7, True, ["7y"]])
def test_what_is_no_number_of_months_or_years_is_refused_by_the_name_of_the_key(text: object) -> None:
    for path, tree in (
        ("archive.keep", {"archive": {"keep": text}}),
        ("sources[0].keep", {"sources": [TRUSTIST | {"keep": text}]}),
    ):
        with pytest.raises(
            ConfigError, match='is not a number of months or years: .*"18mo" or "7y"'
        ) as wrong:
            parse_config(tree)
        assert wrong.value.path == path


@pytest.mark.parametrize("text", ["0mo", "0y", "101y", "1201mo", "999999999y"])
def test_none_and_more_than_a_century_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"archive\.keep: must be at least 1mo and at most 100y"):
        parse_config({"archive": {"keep": text}})


@pytest.mark.parametrize(
    ("keep", "goes"), [(1, "2027_01"), (11, "2027_11"), (12, "2027_12"), (84, "2033_12")]
)
def test_a_month_goes_once_its_last_event_is_too_old_and_not_before(keep: int, goes: str) -> None:
    month, first = named("2026_11"), named(goes)
    assert Keep(keep).expired(month, "any", first)
    assert not Keep(keep).expired(month, "any", Month(first.number - 1))
    assert not Keep(keep).expired(month.next, "any", first)


def test_a_source_may_have_its_own_shorter_or_longer() -> None:
    keep = Keep(24, {"short": 6, "long": 120})
    ages = dict.fromkeys(("short", "other", "long"), 0)
    month = named("2020_01")
    for source in ages:
        while not keep.expired(month, source, Month(month.number + ages[source])):
            ages[source] += 1
    assert ages == {"short": 7, "other": 25, "long": 121}
    assert (keep.shortest, keep.longest) == (6, 120)
    assert (Keep(24).shortest, Keep(24).longest) == (24, 24)
