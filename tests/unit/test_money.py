"""Amounts become integers of minor units, exactly, or are refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Unreadable
from shared.event import money
from shared.event.canonical import Money
from shared.event.jsonbody import Json, Number

SEVERAL = 10**5


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        (Number("9.99"), "EUR", Money(999, "EUR")),
        (Number("1049.10"), "gbp", Money(104910, "GBP")),
        (Number("1.1"), "GBP", Money(110, "GBP")),
        (150, "GBP", Money(15000, "GBP")),
        (0, "GBP", Money(0, "GBP")),
        (-3, "GBP", Money(-300, "GBP")),
        (Number("-0.01"), "GBP", Money(-1, "GBP")),
        (Number("9.990"), "GBP", Money(999, "GBP")),
        (Number("9." + "0" * SEVERAL), "GBP", Money(900, "GBP")),
        (Number("1e3"), "JPY", Money(1000, "JPY")),
        (Number("15e-1"), "GBP", Money(150, "GBP")),
        (Number("0e999999999999"), "GBP", Money(0, "GBP")),
        (Number("0e" + "9" * SEVERAL), "GBP", Money(0, "GBP")),
        (Number("-0"), "GBP", Money(0, "GBP")),
        (Number("-0.0e-5"), "GBP", Money(0, "GBP")),
        (Number("1E+2"), "GBP", Money(10000, "GBP")),
        (Number("1e" + "0" * 5000), "GBP", Money(100, "GBP")),
        (Number("1e-" + "0" * SEVERAL), "GBP", Money(100, "GBP")),
        (Number("1e+" + "0" * SEVERAL + "1"), "GBP", Money(1000, "GBP")),
        (Number("0.000"), "JPY", Money(0, "JPY")),
        (Number("1.234"), "KWD", Money(1234, "KWD")),
        (Number("1.2345"), "CLF", Money(12345, "CLF")),
        ("150.00 €", "EUR", Money(15000, "EUR")),
        ("150.00 €", None, Money(15000, "EUR")),
        ("150.00\u00a0€", "eur", Money(15000, "EUR")),
        ("150€", "EUR", Money(15000, "EUR")),
        ("150.00 EUR", None, Money(15000, "EUR")),
        ("150.00", "EUR", Money(15000, "EUR")),
        (Number("92233720368547758.07"), "GBP", Money(2**63 - 1, "GBP")),
        (Number("-92233720368547758.08"), "GBP", Money(-(2**63), "GBP")),
    ],
)
def test_major_units_become_minor_units(amount: Json, currency: Json, expected: Money) -> None:
    assert money.from_major(amount, currency) == expected


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (Number("9.999"), "GBP", "bad-amount"),
        (Number("0.5"), "JPY", "bad-amount"),
        (Number("1e-999999"), "GBP", "bad-amount"),
        (Number("1e999999"), "GBP", "bad-amount"),
        (Number("1e" + "9" * SEVERAL), "GBP", "bad-amount"),
        (Number("1e-" + "9" * SEVERAL), "GBP", "bad-amount"),
        (Number("1e5000"), "GBP", "bad-amount"),
        (Number("1e" + "0" * 5000 + "19"), "GBP", "bad-amount"),
        ("1e" + "0" * 5000 + "x", "GBP", "bad-amount"),
        (Number("9" * SEVERAL + ".5"), "GBP", "bad-amount"),
        (Number("92233720368547758.08"), "GBP", "bad-amount"),
        (2**63, "JPY", "bad-amount"),
        ("1,500.00 €", "EUR", "bad-amount"),
        ("1.500,00 €", "EUR", "bad-amount"),
        ("150.00 €", "GBP", "bad-amount"),
        ("", "EUR", "bad-amount"),
        ("١٥٠", "EUR", "bad-amount"),
        ("nan", "EUR", "bad-amount"),
        (True, "EUR", "bad-amount"),
        ([], "EUR", "bad-amount"),
        ({}, "EUR", "bad-amount"),
        (1, "XAU", "unknown-currency"),
        (1, "XXX", "unknown-currency"),
        (1, "ZZZ", "unknown-currency"),
        (1, "ınr", "unknown-currency"),  # upper-cases to INR
        (1, "", "unknown-currency"),
        (1, None, "unknown-currency"),
        (1, 978, "unknown-currency"),
        ("150.00 ¤", None, "unknown-currency"),
    ],
)
def test_what_is_no_amount_is_refused(amount: Json, currency: Json, code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        money.from_major(amount, currency)
    assert caught.value.code == code


@pytest.mark.parametrize("amount", [150000, Number("150000.0"), Number("1.5e5")])
def test_minor_units_are_taken_as_they_are(amount: Json) -> None:
    assert money.from_minor(amount, "jpy") == Money(150000, "JPY")
    assert money.from_minor(amount, "gbp") == Money(150000, "GBP")


@pytest.mark.parametrize("amount", ["150", Number("1.5"), True, 2**63, None, []])
def test_a_fraction_or_text_is_no_count_of_minor_units(amount: Json) -> None:
    with pytest.raises(Unreadable, match="bad-amount"):
        money.from_minor(amount, "GBP")


zeros = st.integers(0, 6000).map(lambda count: "0" * count)
digits = st.text("0123456789", min_size=1, max_size=25)
numbers = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    digits,
    st.just("") | st.builds(".{}{}".format, digits, zeros),
    st.just("") | st.builds("{}{}".format, st.sampled_from(["e", "E", "e+", "E-", "e-"]), zeros),
    st.just("") | digits,
    st.just("") | zeros,
)


@pytest.mark.case(n=55)
@settings(deadline=None)
@given(numbers, st.sampled_from(["GBP", "JPY", "KWD", "CLF"]))
def test_a_number_written_in_any_way_is_an_amount_or_unreadable(number: str, currency: str) -> None:
    for read in (money.from_major, money.from_minor):
        code = None
        try:
            assert isinstance(read(Number(number), currency).amount_minor, int)
        except Unreadable as error:
            code = error.code
        assert code in (None, "bad-amount")
