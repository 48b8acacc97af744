"""Reads archived events within a transaction, and the words that they are found by."""

from collections.abc import Sequence

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive import texts
from shared.archive.event import ArchivedEvent, event_of
from shared.archive.months import Month
from shared.archive.sealing import Sealer
from shared.archive.tables import tables
from shared.errors import ArchiveSealed, Unreadable
from shared.event.jsonbody import read
from shared.event.words import words_of


def opened(
    connection: Connection,
    month: Month,
    ids: Sequence[str],
    sealer: Sealer,
    unreadable: dict[str, str],
    *,
    locked: bool = False,
) -> list[ArchivedEvent]:
    """Return those of these events that are there, whole; `locked`: nobody changes them until the
    transaction ends.

    If one cannot be decrypted, it is left out, and why is added to `unreadable`.
    """
    events = tables(month).events.c
    statement = sql.select(events.id, events.payload_key, events.payload).where(events.id.in_(ids))
    found = []
    for row in connection.execute(statement.with_for_update() if locked else statement):
        try:
            found.append(event_of(row.id, sealer.open(*row)))
        except ArchiveSealed as error:
            unreadable[row.id] = str(error)
    return found


def words_in(body: bytes) -> list[str]:
    """Return the words of a body; none if it is beyond what is read."""
    try:
        return words_of(read(body))
    except Unreadable:  # what a later setting of admission.max_json_depth let in
        return []


def forget_words(connection: Connection, month: Month, events: Sequence[ArchivedEvent]) -> None:
    """Remove the words of events, which are as they were when their words were added."""
    texts.remove(connection, month, [(event.id, words_in(event.body)) for event in events])
