"""Events, wherever they are: in Redis, in the archive, or only as dead letters on the disk.

Redis is read first, and what it says holds: an event that moves is written to the archive before it leaves
Redis. One that came back to be sent again is in both, until it is archived anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from shared.archive.letter import StoredLetter, ends_of
from shared.archive.search import Search
from shared.event.ids import received_ms
from shared.event.record import JSON, EventRecord
from shared.event.timeline import Happened
from shared.operations.archived import Archived
from shared.operations.dead_letters import attempts_of, why_of
from shared.operations.disk import archive_of, certain, dead_letter_file
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.context import of_source
from shared.store.deliveries import Deliveries
from shared.store.letters import Letters
from shared.store.records import Records
from shared.store.searching import takes
from shared.store.sources import Sources
from shared.store.transactions import Transactions, happened, indexes
from shared.store.views import CopyView, DeliveryView, EventView, Kept, event_view
from shared.store.walk import Span

if TYPE_CHECKING:
    from shared.archive.dead_letters import DeadLetterFile
    from shared.archive.reader import Reader

PAGE = 100


def events_of(client: RedisClient, config: Config) -> Events:
    """Return all that a configuration's gateway keeps of events."""
    return Events(client, dead_letter_file(config), archive_of(config))


class Events:
    """What is held of requests and events. All methods raise StoreUnavailable and ArchiveUnavailable."""

    def __init__(
        self, client: RedisClient, file: DeadLetterFile | None, archive: Reader | None = None
    ) -> None:
        self._records = Records(client)
        self._deliveries = Deliveries(client)
        self._letters = Letters(client)
        self._sources = Sources(client)
        self._transactions = Transactions(client)
        self._file = file
        self._archived = None if archive is None else Archived(archive)

    async def find(self, id: str, sources: Sequence[str]) -> Kept | None:
        """Return what a receipt stands for now; None if it is unknown, or retention has removed it."""
        # Sources that left the configuration may still have an inbox.
        names = dict.fromkeys([*sources, *await self._sources.on_record()])
        found = await self._records.find(id, list(names))
        if found is None and self._archived is not None:
            found = await self._archived.find(id)
        if found is None and (letters := await self._of_event(id)):
            return _view(letters)
        return found

    async def payload(self, kept: Kept) -> EventRecord | bytes | None:
        """Return an event as it is delivered, or the body of what is not an event; None if it is gone."""
        found = await self._records.payload(kept)
        if found is None and self._archived is not None:
            found = await self._archived.payload(kept)
        if found is None and isinstance(kept, EventView) and (letters := await self._of_event(kept.id)):
            letter = letters[0]
            return EventRecord(
                letter.id, letter.attributes, letter.data, letter.body, letter.content_type or JSON
            )
        return found

    async def deliveries(
        self, id: str, *, answers: bool = False, concurrency: Mapping[str, int] | None = None
    ) -> list[DeliveryView] | None:
        """Return an event's deliveries, in the order of its targets; None if there is no such event.

        `concurrency` is that of each configured target.
        """
        views = await self._deliveries.of_event(id, answers=answers, concurrency=concurrency)
        letters = {letter.target: letter for letter in await self._of_event(id)}
        if views is None and self._archived is not None:
            views = await self._archived.deliveries(id, answers=answers)
        if views is None:
            if not letters:
                return None
            ends = ends_of([*letters.values()])
            views = [DeliveryView(target, end, 0, None, None, []) for target, end in ends.items()]
        return [
            msgspec.structs.replace(
                view,
                failed=letters[view.target].failed,
                attempts=attempts_of(letters[view.target], answers=answers),
                why=why_of(letters[view.target]),
            )
            if view.target in letters and view.state == "dead" and not view.attempts
            else view
            for view in views
        ]

    async def events(self, wanted: Search, limit: int, before: str | None = None) -> list[EventView]:
        """Return up to `limit` events, newest first; with `before`, only those whose ids are smaller.

        So the last id of a page is where the next one begins: an event that moves meanwhile is neither missed
        nor listed twice.
        """
        found = {view.id: view for view in await self._records.events(wanted, limit, before)}
        if self._archived is not None:
            await self._add_archived(self._archived, wanted, found, limit, before)
        if self._file is not None and wanted.state in (None, "dead"):
            await self._add_from_disk(self._file, wanted, found, limit, before)
        return sorted(found.values(), key=lambda view: view.id, reverse=True)[:limit]

    async def copies(
        self, span: Span, source: str | None, limit: int, before: str | None = None
    ) -> list[CopyView]:
        """Return up to `limit` recorded duplicates, newest first; `before` as of `events`."""
        found = {view.id: view for view in await self._records.duplicates(span, source, limit, before)}
        if self._archived is not None:
            archived = await self._archived.copies(span, source, limit, before)
            # One that was admitted by hand is an event in Redis now, and its row here goes when that is
            # archived.
            left = set(await self._letters.gone([view.id for view in archived]))
            found |= {view.id: view for view in archived if view.id in left and view.id not in found}
        return sorted(found.values(), key=lambda view: view.id, reverse=True)[:limit]

    async def transaction(
        self, provider: str, transaction_id: str, source: str | None = None
    ) -> list[Happened]:
        """Return the events of a transaction that are kept, in any order.

        `source` is given if ids of this provider mean something only within their source.
        """
        found = await self._transactions.events(provider, transaction_id, source)
        if self._archived is not None:
            here_too = {event.id for event in found}
            archived = await self._archived.transaction(provider, transaction_id, source)
            found += [event for event in archived if event.id not in here_too]
        if self._file is None:
            return found
        here = indexes(provider, transaction_id, source)
        letters = await certain(self._letters, await asyncio.to_thread(self._file.of_transaction, here))
        of_event = {letter.id: letter for letter in letters}
        # Redis was read first: an event that left it meanwhile is in both.
        gone = {*await self._letters.gone([*of_event])} - {event.id for event in found}
        for id in gone:
            letter = of_event[id]
            fields = [
                letter.attributes,
                letter.data,
                letter.copies,
                letter.differing,
                letter.copy_of.encode(),
            ]
            if event := happened(id, fields, provider, transaction_id, source):
                found.append(event)
        return found

    async def _add_archived(
        self,
        archived: Archived,
        wanted: Search,
        found: dict[str, EventView],
        limit: int,
        before: str | None,
    ) -> None:
        count = 0
        while page := await archived.page(wanted, max(limit, PAGE), before):
            before = page[-1].id
            new = [view for view in page if view.id not in found]
            gone = set(await self._letters.gone([view.id for view in new]))
            # What is back in Redis has changed, maybe: the listing from there was read before it came.
            back = await self._records.views([view.id for view in new if view.id not in gone], wanted)
            new = [*(view for view in new if view.id in gone), *back]
            found |= {view.id: view for view in new}
            count += len(new)
            if count >= limit or len(page) < max(limit, PAGE):
                return

    async def _add_from_disk(
        self,
        file: DeadLetterFile,
        wanted: Search,
        found: dict[str, EventView],
        limit: int,
        before: str | None,
    ) -> None:
        from shared.archive.dead_letters import Wanted

        until_ms = wanted.until_ms if before is None else received_ms(before)
        span = Wanted(received_ms=(wanted.since_ms, until_ms))
        last: StoredLetter | None = None
        count = 0
        while page := await asyncio.to_thread(file.by_receipt, span, limit=PAGE, after=last):
            last = page[-1]
            ids = dict.fromkeys(
                letter.id
                for letter in await certain(self._letters, page)
                if letter.id not in found
                and of_source(letter.id, wanted.source)
                and wanted.takes_type(letter.type)
                and (before is None or letter.id < before)
            )
            gone = set(await self._letters.gone(list(ids)))
            # A listing by state passes over finished events, which Redis may still hold.
            kept = await self._records.views([id for id in ids if id not in gone], wanted)
            letters: dict[str, list[StoredLetter]] = {}
            for letter in await asyncio.to_thread(file.of_events, list(gone)) if gone else []:
                letters.setdefault(letter.id, []).append(letter)
            left = [view for view in map(_view, letters.values()) if takes(wanted, view)]
            new = [*kept, *left]
            found |= {view.id: view for view in new}
            count += len(new)
            if count >= limit:
                return

    async def _of_event(self, id: str) -> list[StoredLetter]:
        if self._file is None:
            return []
        return await certain(self._letters, await asyncio.to_thread(self._file.of_event, id))


def _view(letters: Sequence[StoredLetter]) -> EventView:
    """Return an event from its letters."""
    first = letters[0]
    head = [
        first.attributes,
        first.targets.encode(),
        first.copies,
        first.differing,
        first.copy_of.encode() or None,
    ]
    return event_view(first.id, head, first.data, ends_of(letters), {})
