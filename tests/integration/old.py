"""An archive with events of other months, which came in as events of today do."""

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sql

from shared.archive.database import Database
from shared.archive.event import ArchivedCopy, ArchivedEvent
from shared.archive.expiry import Expiry, Keep, Removed
from shared.archive.months import named
from shared.archive.writer import Writer
from shared.event.ids import event_id
from shared.event.record import SOURCE_PREFIX
from shared.store.finished import Finished
from tests.integration.archive import Stage


class Past:
    """Writes events and copies of any month to an archive, and removes what is too old."""

    def __init__(self, stage: Stage, first: ArchivedEvent) -> None:
        self.stage = stage
        self.database = Database(stage.url)
        self._writer = Writer(self.database)
        self._first = first
        self._count = 0

    @classmethod
    async def of(cls, stage: Stage) -> "Past":
        """Begin with an event that a store took all the way."""
        await stage.done("ledger")
        batch = await Finished(stage.store.client).oldest(2**50, 1)
        await Finished(stage.store.client).remove(batch)
        return cls(stage, batch.events[0])

    def event(self, month: str, source: str = "trustshare", **body: Any) -> str:
        """Archive an event of a month. Returns its id."""
        [id] = self.events(1, month, source, **body)
        return id

    def events(self, count: int, month: str, source: str = "trustshare", **body: Any) -> list[str]:
        """Archive events of a month, each of a transaction of its own unless the body says `token`."""
        made = [self._event(month, source, body) for _ in range(count)]
        assert self._writer.write(made, []) == []
        return [event.id for event in made]

    def _event(self, month: str, source: str, body: dict[str, Any]) -> ArchivedEvent:
        id = self._id(month, source)
        body = {"token": f"tx-of-{id}", "description": f"words of {id}"} | body
        attributes = msgspec.json.decode(self._first.attributes) | {
            "id": id,
            "source": SOURCE_PREFIX + source,
        }
        data = msgspec.json.decode(self._first.data) | {"transaction_id": body["token"]}
        return msgspec.structs.replace(
            self._first,
            id=id,
            attributes=msgspec.json.encode(attributes),
            data=msgspec.json.encode(data),
            body=msgspec.json.encode(msgspec.json.decode(self._first.body) | body),
        )

    def copy(self, month: str, of: str, source: str = "trustshare") -> str:
        """Archive a suppressed copy that came in a month. Returns its receipt."""
        copy = ArchivedCopy(self._id(month, source), source, of, True, "digest", b"", b"{}")
        assert self._writer.write([], [copy]) == []
        return copy.id

    def _id(self, month: str, source: str) -> str:
        self._count += 1
        return event_id(source, f"{named(month).begins_ms + self._count}-0")

    def steps(self, now: str, months: int = 12, **sources: int) -> Iterator[Removed]:
        """Remove what is too old in a month, step by step."""
        return Expiry(self.database).steps(Keep(months, sources), named(now))

    def remove(self, now: str, months: int = 12, **sources: int) -> list[Removed]:
        """Remove what is too old in a month. Returns the steps that this took."""
        return list(self.steps(now, months, **sources))

    def tables(self, month: str) -> list[str]:
        """Return the names of the tables of a month."""
        with self.database.reading() as connection:
            return [name for name in sql.inspect(connection).get_table_names() if name.endswith(month)]

    def rows(self, query: str, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        with self.database.reading() as connection:
            return list(connection.execute(sql.text(query), values))

    def close(self) -> None:
        """Close the connections."""
        self.database.close()
