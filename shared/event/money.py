"""Reads amounts as providers write them into integers of minor units (ISO 4217), never through a float."""

import re
from functools import cache

from shared.errors import Unreadable
from shared.event.canonical import Money
from shared.event.jsonbody import Json, Number

_SYMBOLS = {"€": "EUR", "£": "GBP"}  # without "$", which a dozen currencies use
_DECIMAL = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_MARKED = re.compile(r"(-?[0-9.]+)[ \u00a0\u202f]*([^\s0-9.]{1,3})")
_MAX_DIGITS = 19  # of 2**63


def exponent(currency: str) -> int:
    """Return how many decimal digits a currency's minor unit has: JPY 0, GBP 2, KWD 3.

    Raises: Unreadable (`unknown-currency`), also for codes without a minor unit, such as XAU.
    """
    code = currency.upper() if currency.isascii() else ""
    if code not in _exponents():
        raise Unreadable("unknown-currency", "the currency is not an ISO 4217 code with a minor unit")
    return _exponents()[code]


@cache
def _exponents() -> dict[str, int]:
    from iso4217 import (
        Currency,
    )  # it reads an XML file when imported

    return {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}


def from_major(amount: Json, currency: Json) -> Money:
    """Read an amount in major units (pounds, euros): a JSON number, or its decimal text.

    The text may end in a currency mark: `150.00 €`, `150.00 EUR`. The mark stands in for a missing
    `currency` (None) and must agree with a given one. Zeros past the currency's digits are allowed.

    Raises: Unreadable (`bad-amount`, `unknown-currency`).
    """
    mark = None
    if isinstance(amount, str) and (marked := _MARKED.fullmatch(amount)):
        amount, mark = marked[1], _SYMBOLS.get(marked[2], marked[2])
    code = _code(mark if currency is None else currency)
    if mark is not None and _code(mark) != code:
        raise Unreadable("bad-amount", "the amount's currency mark contradicts the currency")
    if isinstance(amount, bool) or not isinstance(amount, (int, str, Number)):
        raise Unreadable("bad-amount", "the amount is not a decimal number")
    return Money(_scaled(amount, exponent(code)), code)


def from_minor(amount: Json, currency: Json) -> Money:
    """Read an amount that a provider states in minor units: a JSON number without a fraction.

    Raises: Unreadable (`bad-amount`, `unknown-currency`).
    """
    code = _code(currency)
    if isinstance(amount, bool) or not isinstance(amount, (int, Number)):
        raise Unreadable("bad-amount", "the amount is not a number of minor units")
    return Money(_scaled(amount, 0), code)


def _code(currency: Json) -> str:
    if not isinstance(currency, str):
        raise Unreadable("unknown-currency", "an amount stands without a currency code")
    if currency not in _exponents():
        exponent(currency)
        currency = currency.upper()
    return currency


def _scaled(amount: int | str | Number, places: int) -> int:
    """Return `amount` × 10**places, computed on its digits: the cost does not depend on the exponent."""
    if isinstance(amount, int) and amount.bit_length() < 32:
        minor: int = amount * 10**places  # almost every amount
        return minor
    text = amount.text if isinstance(amount, Number) else str(amount)
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise Unreadable("bad-amount", "the amount is not a decimal number")
    sign, whole, fraction, power = match[1], match[2], match[3] or "", match[4] or "0"
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return 0
    magnitude = power.lstrip("+-0") or "0"  # `int` takes at most 4,300 digits, and counts zeros
    if len(magnitude) > 9:
        raise Unreadable("bad-amount", "the amount's exponent is out of range")
    power_of_ten = -int(magnitude) if power.startswith("-") else int(magnitude)
    shift = power_of_ten - len(fraction) + (len(digits) - len(significant)) + places
    if shift < 0:
        raise Unreadable("bad-amount", "the amount has more digits than its currency's minor unit")
    if len(significant) + shift > _MAX_DIGITS:
        raise Unreadable("bad-amount", "the amount does not fit in 64 bits")
    minor = int(sign + significant) * 10**shift
    if not -(2**63) <= minor < 2**63:
        raise Unreadable("bad-amount", "the amount does not fit in 64 bits")
    return minor


def as_text(money: Money) -> str:
    """Return an amount for people: `1,500.00 GBP`."""
    try:
        places = exponent(money.currency)
    except Unreadable:  # another version, which knew the currency, admitted it
        return f"{money.amount_minor} minor units of {money.currency}"
    whole, minor = divmod(abs(money.amount_minor), 10**places)
    sign = "-" if money.amount_minor < 0 else ""
    return f"{sign}{whole:,}" + (f".{minor:0{places}d}" if places else "") + f" {money.currency}"
