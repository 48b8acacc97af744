"""Finds the newest events of a month by one thing that is searched for, so that a page costs the same however
much there is.

What leads a search is the thing that few events have, as a rule. If that is one value of an indexed column,
the index has its events in the order of receipt. If it is a range (of amounts, of types, or words of a text),
then either many events have it, and the newest have some; or few have it, and all of these can be put in
order.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive import texts
from shared.archive.months import Month
from shared.archive.search import Search, as_regex, beginning, is_glob
from shared.archive.tables import tables

WINDOW = 10_000
"""How many of the newest events are looked through before an index is asked for all that are in a range."""

Statement = sql.Select[Any]


class Candidates:
    """The events of one month by what leads a search."""

    def __init__(self, connection: Connection, month: Month, search: Search, party: str | None) -> None:
        """`party` is the hash of the party that is searched for, if one is."""
        self._connection = connection
        self._month = month
        self._search = search
        self._tables = tables(month)
        self._party = party
        self._one_value = self._of_one_value()

    def newest(self, since: str, until: str, count: int) -> list[str]:
        """Return the ids of up to `count` candidates between two ids, the second excluded, newest first.

        If they are fewer, there are no more.
        """
        if self._one_value is not None:
            return self._newest(self._one_value, since, until, count)
        if (ranged := self._of_range()) is None:
            return self._newest(sql.select(self._tables.events.c.id), since, until, count)
        ids = self._tables.events.c.id
        edge = self._connection.scalar(
            sql.select(ids).where(ids >= since, ids < until).order_by(ids.desc()).offset(WINDOW).limit(1)
        )
        found = self._newest(ranged(edge or since, until, True), edge or since, until, count)
        if edge is None or len(found) == count:
            return found
        return found + self._all_in_order(ranged(since, edge, False), count - len(found))

    def _newest(self, statement: Statement, since: str, until: str, count: int) -> list[str]:
        id = statement.selected_columns[0]
        statement = statement.where(id >= since, id < until).distinct().order_by(id.desc()).limit(count)
        return list(self._connection.scalars(statement))

    def _all_in_order(self, statement: Statement, count: int) -> list[str]:
        # Materialized: the planner is not to walk the ids in their order until it has found enough.
        found = statement.cte("found").prefix_with("MATERIALIZED")
        return list(self._connection.scalars(sql.select(found.c.id).order_by(found.c.id.desc()).limit(count)))

    def _of_one_value(self) -> Statement | None:
        wanted, here = self._search, self._tables
        events, deliveries, attempts = here.events.c, here.deliveries.c, here.attempts.c
        if wanted.id is not None:
            columns = (events.transaction_id, events.payment_id, events.provider_event)
            own = sql.select(events.id).where(events.id == wanted.id)
            return sql.select(
                sql.union(own, *(sql.select(events.id).where(column == wanted.id) for column in columns))
                .subquery()
                .c.id
            )
        for column, value in (
            (events.payment_id, wanted.payment),
            (events.provider_event, wanted.provider_event),
            (events.transaction_id, wanted.transaction),
        ):
            if value is not None:
                return sql.select(events.id).where(column == value)
        if self._party is not None:
            return sql.select(here.parties.c.id).where(here.parties.c.party == self._party)
        for column, word in ((attempts.error, wanted.error), (attempts.status, wanted.status)):
            if word is not None:
                return sql.select(attempts.id).where(column == word)
        if wanted.text is not None or wanted.least is not None or wanted.most is not None:
            return None
        if wanted.state is not None or wanted.target is not None:
            return sql.select(deliveries.id).where(*_delivery(deliveries, wanted))
        if wanted.type is not None:
            return None if is_glob(wanted.type) else sql.select(events.id).where(events.type == wanted.type)
        if wanted.source is not None:
            return sql.select(events.id).where(events.source == wanted.source)
        return None

    def _of_range(self) -> Callable[[str, str, bool], Statement] | None:
        """Return what makes a statement for the candidates between two ids, of which there are few or not."""
        wanted, events = self._search, self._tables.events.c
        if wanted.text is not None:
            text = wanted.text
            return lambda since, until, few: texts.matching(
                self._connection, self._month, text, since, until, few=few
            )
        of_amount = wanted.currency is not None
        if not of_amount and not (wanted.type or "").strip("*"):
            return None

        def in_range(columns: Any) -> list[sql.ColumnElement[bool]]:
            if of_amount:
                return _amount(columns, wanted)
            start = beginning(wanted.type or "")
            bounds = [columns.type >= start, columns.type <= start + chr(0x10FFFF)] if start else []
            return [self._type(columns), *bounds]

        def statement(since: str, until: str, few: bool) -> Statement:
            between = (events.id >= since, events.id < until)
            if not few:
                return sql.select(events.id).where(*in_range(events), *between)
            # Read in their order first: the planner is not to sort all that an index has in the range.
            newest = sql.select(events.id, events.type, events.currency, events.amount).where(*between)
            window = newest.order_by(events.id.desc()).limit(WINDOW + 1).subquery().c
            return sql.select(window.id).where(*in_range(window))

        return statement

    def conditions(self, events: Any) -> list[sql.ColumnElement[bool]]:
        """Return all that an event must fulfil, on these columns of `events`."""
        wanted, here = self._search, self._tables
        found: list[sql.ColumnElement[bool]] = [
            column == value
            for column, value in (
                (events.source, wanted.source),
                (events.transaction_id, wanted.transaction),
                (events.payment_id, wanted.payment),
                (events.provider_event, wanted.provider_event),
                (events.currency, wanted.currency),
            )
            if value is not None
        ]
        if wanted.least is not None or wanted.most is not None:
            found += _amount(events, wanted)
        if wanted.type is not None:
            found.append(self._type(events))
        if wanted.state is not None or wanted.target is not None:
            found.append(_exists(here.deliveries, events.id, _delivery(here.deliveries.c, wanted)))
        if wanted.of_attempts:
            attempts = here.attempts.c
            pairs = ((attempts.status, wanted.status), (attempts.error, wanted.error))
            found.append(
                _exists(
                    here.attempts,
                    events.id,
                    [column == value for column, value in pairs if value is not None],
                )
            )
        if self._party is not None:
            found.append(_exists(here.parties, events.id, [here.parties.c.party == self._party]))
        return found

    def _type(self, columns: Any) -> sql.ColumnElement[bool]:
        pattern = self._search.type or ""
        if not is_glob(pattern):
            found: sql.ColumnElement[bool] = columns.type == pattern
        elif self._connection.dialect.name == "postgresql":
            found = columns.type.regexp_match(sql.literal(as_regex(pattern), sql.Text))
        else:
            found = columns.type.bool_op("GLOB")(pattern.replace("[!", "[^"))
        return found


def _amount(events: Any, wanted: Search) -> list[sql.ColumnElement[bool]]:
    conditions = [events.currency == wanted.currency]
    if wanted.least is not None:
        conditions.append(events.amount >= wanted.least)
    if wanted.most is not None:
        conditions.append(events.amount <= wanted.most)
    return conditions


def _delivery(deliveries: Any, wanted: Search) -> list[sql.ColumnElement[bool]]:
    pairs = ((deliveries.state, wanted.state), (deliveries.target, wanted.target))
    return [column == value for column, value in pairs if value is not None]


def _exists(
    table: sql.Table, id: sql.ColumnElement[str], conditions: list[sql.ColumnElement[bool]]
) -> sql.ColumnElement[bool]:
    return sql.exists().where(table.c.id == id, *conditions)
