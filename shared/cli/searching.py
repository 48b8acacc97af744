"""The options by which commands search events, and the search that they make."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from shared.archive.search import Search
from shared.cli.parameters import Moment, span, span_options
from shared.errors import Unreadable
from shared.event.money import from_major
from shared.event.words import split
from shared.store.views import STATES

_OPTIONS = (
    click.option("--source", help="Only events of this source."),
    click.option("--type", metavar="GLOB", help="Only events of these canonical types: payment.*"),
    click.option("--state", type=click.Choice(STATES), help="Only events with a delivery in this state."),
    click.option("--target", help="Only events for this target; with --state, in that state for it."),
    click.option("--id", metavar="ID", help="Any id: the event's, or the provider's of what it is about."),
    click.option("--transaction", metavar="ID", help="Only events of this transaction."),
    click.option("--payment", metavar="ID", help="Only events of this payment."),
    click.option("--provider-event", metavar="ID", help="Only the event with this id of the provider's."),
    click.option("--status", type=click.IntRange(100, 599), help="Only events with an attempt answered so."),
    click.option("--error", metavar="WORD", help="Only events with an attempt that failed so: timeout."),
    click.option("--currency", metavar="CODE", help="Only events about money in this currency: EUR."),
    click.option("--min-amount", metavar="AMOUNT", help="With --currency: no less than this: 99.90."),
    click.option("--max-amount", metavar="AMOUNT", help="With --currency: no more than this."),
    click.option("--party", metavar="NAME", help="Only events of this party, as the provider names it."),
    click.option("--text", metavar="WORDS", help="Only events whose payload has these words in this order."),
)


def search_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a search, and `--since` and `--until`."""
    function = span_options("came in")(function)
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def search(now_ms: int, since: Moment | None, until: Moment | None, **options: Any) -> Search:
    """Return the search that options ask for. Raises: UsageError."""
    within = span(since, until, now_ms)
    currency = options.pop("currency")
    currency = None if currency is None else currency.upper()
    least, most = (
        _minor(options.pop(name), currency, option)
        for name, option in (("min_amount", "--min-amount"), ("max_amount", "--max-amount"))
    )
    if options["text"] is not None and not split(options["text"]):
        raise click.UsageError("--text has neither letters nor digits")
    return Search(
        since_ms=within.since_ms,
        until_ms=within.until_ms,
        currency=currency,
        least=least,
        most=most,
        **options,
    )


def _minor(amount: str | None, currency: str | None, option: str) -> int | None:
    if amount is None:
        return None
    if currency is None:
        raise click.UsageError(f"{option} needs --currency: 10 is not the same in JPY and EUR")
    try:
        Decimal(amount)
        return from_major(amount, currency).amount_minor
    except InvalidOperation:
        raise click.UsageError(f"{option}: {amount!r} is no amount such as 99.90") from None
    except Unreadable as error:
        raise click.UsageError(f"{option}: {error.detail}") from None
