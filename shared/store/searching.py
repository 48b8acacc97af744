"""Tells whether an event in Redis is searched for. The archive asks its indexes the same."""

import msgspec

from shared.archive.rows import error_word
from shared.archive.search import Search, same
from shared.errors import Unreadable
from shared.event.jsonbody import read
from shared.event.record import EventRecord
from shared.event.words import has_in_order, split, words_of
from shared.store.events import Attempts
from shared.store.views import EventView, read_attempt


class _Parties(msgspec.Struct, frozen=True):
    parties: dict[str, str] = {}


_parties = msgspec.json.Decoder(_Parties).decode


def takes(search: Search, view: EventView) -> bool:
    """Tell whether an event has all that is searched for and that its view shows."""
    ids = (view.id, view.transaction_id, view.payment_id, view.provider_event)
    return (
        (search.id is None or search.id in ids)
        and search.transaction in (None, view.transaction_id)
        and search.payment in (None, view.payment_id)
        and search.provider_event in (None, view.provider_event)
        and search.source in (None, view.source)
        and search.takes_type(view.type)
        and _takes_delivery(search, view)
        and _takes_amount(search, view)
    )


def _takes_delivery(search: Search, view: EventView) -> bool:
    if search.target is None:
        return search.state is None or view.is_in(search.state)
    return search.target in view.deliveries and (
        search.state is None or view.state_for(search.target, search.state)
    )


def _takes_amount(search: Search, view: EventView) -> bool:
    if search.currency is None:
        return True
    if view.money is None or view.money.currency != search.currency:
        return False
    amount = view.money.amount_minor
    return (search.least is None or amount >= search.least) and (search.most is None or amount <= search.most)


def takes_attempts(search: Search, attempts: Attempts) -> bool:
    """Tell whether one of an event's attempts is searched for."""
    return any(
        search.status in (None, attempt.status) and search.error in (None, error_word(attempt.error))
        for attempt in map(read_attempt, attempts.values())
    )


def takes_payload(search: Search, record: EventRecord) -> bool:
    """Tell whether an event's payload has what is searched for."""
    if search.party is not None:
        parties = _parties(record.data).parties.values()
        if same(search.party) not in map(same, parties):
            return False
    if search.text is None:
        return True
    try:
        return has_in_order(words_of(read(record.body)), split(search.text))
    except Unreadable:
        return False
