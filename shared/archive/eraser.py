"""Erases what the archive holds of a person. All calls block. `shared.operations.erasure` has the order."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from shared.archive import texts
from shared.archive.database import Database, months_of
from shared.archive.event import copy_of, to_payload
from shared.archive.holds import Hold, Holds, held, lock
from shared.archive.months import Month, month_of
from shared.archive.payloads import forget_words, opened
from shared.archive.person import Person, erased_copy
from shared.archive.rows import party_hash, rows_of
from shared.archive.scrubbing import scrub
from shared.archive.settings import known_party_key, note_to_scrub
from shared.archive.tables import tables
from shared.errors import ArchiveSealed

AT_ONCE = 100


class Eraser:
    """Finds and erases a person's events and copies. All methods raise ArchiveUnavailable."""

    def __init__(self, database: Database, person: Person) -> None:
        self._database = database
        self._person = person
        self.unreadable: dict[str, str] = {}
        """Events and copies that could not be decrypted and stay as they are, and why."""
        self.held: set[str] = set()
        """The person's events and copies that a hold keeps: they stay as they are, and are not found."""

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def hash(self) -> str | None:
        """Return what stands for the person in the archive; None if it has no parties yet."""
        with self._database.reading() as connection:
            key = known_party_key(connection, self._database.sealer)
        return None if key is None else party_hash(key, self._person.party)

    def events(self) -> list[str]:
        """Return the ids of the person's events, in any order."""
        found: list[str] = []
        party = self.hash()
        with self._database.reading() as connection:
            months = months_of(connection)
        for month in months:
            with self._database.reading() as connection:
                found += self._without_held(connection, self._of_month(connection, month, party))
        return found

    def holds(self) -> list[Hold]:
        """Return all holds."""
        return Holds(self._database).all()

    def _without_held(self, connection: Connection, ids: Sequence[str]) -> list[str]:
        kept = held(connection, ids)
        self.held |= kept
        return [id for id in ids if id not in kept]

    def _of_month(self, connection: Connection, month: Month, party: str | None) -> list[str]:
        here = tables(month)
        by_party = sql.select(here.events.c.id).where(
            here.events.c.id.in_(sql.select(here.parties.c.id).where(here.parties.c.party == party))
        )
        if self._person.provider is not None:
            by_party = by_party.where(here.events.c.provider == self._person.provider)
        found = dict.fromkeys(connection.scalars(by_party))
        if self._person.is_distinct:
            ids = (month.first_id, month.next.first_id)
            named = texts.matching(connection, month, self._person.party, *ids, few=False)
            others = [id for id in connection.scalars(named) if id not in found]
            for part in _parts(others):
                events = opened(connection, month, part, self._database.sealer, {})
                found |= {event.id: None for event in events if self._person.is_of(event.data, event.body)}
        return list(found)

    def copies(self, of: Iterable[str]) -> list[str]:
        """Return the ids of the suppressed copies of events that hold more than that they came."""
        found: list[str] = []
        with self._database.reading() as connection:
            for month in months_of(connection):
                copies = tables(month).copies.c
                for part in _parts(list(of)):
                    columns = (copies.id, copies.payload_key, copies.payload)
                    for row in connection.execute(sql.select(*columns).where(copies.copy_of.in_(part))):
                        try:
                            copy = copy_of(row.id, self._database.sealer.open(*row))
                        except ArchiveSealed as error:
                            self.unreadable[row.id] = str(error)
                        else:
                            found += [row.id] if erased_copy(copy) != copy else []
            return self._without_held(connection, found)

    def erase_copies(self, ids: Sequence[str]) -> int:
        """Erase what copies hold. Returns how many. If repeated, nothing changes."""
        return self._each(ids, self._erase_copies)

    def erase_events(self, ids: Sequence[str]) -> int:
        """Erase what events hold. Returns how many. If repeated, nothing changes."""
        return self._each(ids, self._erase_events)

    def scrub(self) -> bool:
        """Remove from the database's files what was erased; as `shared.archive.scrubbing.scrub`."""
        return scrub(self._database)

    def _each(self, ids: Sequence[str], erase: Any) -> int:
        count = 0
        by_month: dict[Month, list[str]] = {}
        for id in sorted(ids):
            by_month.setdefault(month_of(id), []).append(id)
        for month, here in by_month.items():
            for part in _parts(here):
                with self._database.writing() as connection:
                    if month in months_of(connection):  # retention may have removed it
                        lock(connection)
                        note_to_scrub(connection, month)
                        count += erase(connection, month, self._without_held(connection, part))
        return count

    def _erase_copies(self, connection: Connection, month: Month, ids: Sequence[str]) -> int:
        copies = tables(month).copies
        columns = (copies.c.id, copies.c.payload_key, copies.c.payload)
        rows = []
        for row in connection.execute(sql.select(*columns).where(copies.c.id.in_(ids)).with_for_update()):
            try:
                copy = erased_copy(copy_of(row.id, self._database.sealer.open(*row)))
            except ArchiveSealed as error:
                self.unreadable[row.id] = str(error)
            else:
                key_id, payload = self._database.sealer.seal(row.id, to_payload(copy))
                rows.append({"of": row.id, "payload_key": key_id, "payload": payload})
        if rows:
            connection.execute(sql.update(copies).where(copies.c.id == sql.bindparam("of")), rows)
        return len(rows)

    def _erase_events(self, connection: Connection, month: Month, ids: Sequence[str]) -> int:
        here, sealer = tables(month), self._database.sealer
        events = opened(connection, month, ids, sealer, self.unreadable, locked=True)
        if not events:
            return 0
        forget_words(connection, month, events)
        rows = []
        for event in map(self._person.erased_event, events):
            key_id, payload = sealer.seal(event.id, to_payload(event))
            row = rows_of(event).event
            kept = {name: row[name] for name in _MAY_NAME}
            rows.append({"of": event.id, "payload_key": key_id, "payload": payload} | kept)
        connection.execute(sql.update(here.events).where(here.events.c.id == sql.bindparam("of")), rows)
        done = [event.id for event in events]
        connection.execute(sql.delete(here.parties).where(here.parties.c.id.in_(done)))
        return len(rows)


_MAY_NAME = ("provider_event", "transaction_id", "payment_id", "status", "provider_status", "occurred_at")
"""The columns with a provider's own words."""


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
