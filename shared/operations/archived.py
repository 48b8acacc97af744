"""The archive, as operators are shown what it has. Its calls block, so each is made in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from shared.archive.event import ArchivedCopy, ArchivedEvent, Known
from shared.archive.search import Search
from shared.event.ids import received_ms
from shared.event.record import EventRecord, Shown
from shared.event.timeline import Happened
from shared.event.times import rfc3339_ms
from shared.store.due import Attempt
from shared.store.transactions import happened
from shared.store.views import (
    ON_DISK,
    CopyView,
    DeliveryView,
    EventView,
    Kept,
    attempt_view,
    read_attempt,
    state_of,
)
from shared.store.walk import Span
from shared.store.why import why_given_up

if TYPE_CHECKING:
    from shared.archive.reader import Reader


class Archived:
    """What the archive has of events and copies. All methods raise ArchiveUnavailable."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def find(self, id: str) -> EventView | CopyView | None:
        """Return an event, or a suppressed copy, by its receipt."""
        if known := await asyncio.to_thread(self._reader.known, [id]):
            return _view(known[0])
        copy = await self.copy(id)
        return None if copy is None else _copy(copy)

    async def copy(self, id: str, *, compared: bool = True) -> ArchivedCopy | None:
        """Return a suppressed copy, whole; `compared` as of `Reader.copy`."""
        return await asyncio.to_thread(partial(self._reader.copy, id, compared=compared))

    async def payload(self, kept: Kept) -> EventRecord | bytes | None:
        """Return an event as it is delivered, or the body of a copy if that is not the first's."""
        if isinstance(kept, CopyView):
            copy = await self.copy(kept.id)
            return None if copy is None else copy.body
        found = await self.events([kept.id])
        return found[0].record if found else None

    async def events(self, ids: list[str]) -> list[ArchivedEvent]:
        """Return those of these events that are archived, whole."""
        return await asyncio.to_thread(self._reader.events, ids)

    async def end(self, target: str, ids: Sequence[str], how: str) -> None:
        """End the deliveries of archived events whose dead letters on the disk have ended, as `discarded` or
        `expired`. If repeated, or if the event is not archived, it does nothing.
        """
        ended = [
            msgspec.structs.replace(event, fields=event.fields | {f"end:{target}": how.encode()})
            for event in await self.events(list(ids))
            if event.text(f"end:{target}") == ON_DISK
        ]
        if ended:
            await asyncio.to_thread(self._reader.replace, ended)

    async def deliveries(self, id: str, *, answers: bool) -> list[DeliveryView] | None:
        """Return an event's deliveries, in the order of its targets; None if there is no such event."""
        found = await self.events([id])
        return deliveries_of(found[0], answers=answers) if found else None

    async def page(self, wanted: Search, limit: int, before: str | None) -> list[EventView]:
        """Return up to `limit` events, newest first; with `before`, only those whose ids are smaller."""
        return [_view(known) for known in await asyncio.to_thread(self._reader.page, wanted, limit, before)]

    async def copies(self, span: Span, source: str | None, limit: int, before: str | None) -> list[CopyView]:
        """Return up to `limit` suppressed copies, newest first; `before` as of `page`."""
        found = await asyncio.to_thread(
            self._reader.copies, span.since_ms, span.until_ms, source, limit, before
        )
        return [_copy(copy) for copy in found]

    async def transaction(self, provider: str, transaction_id: str, source: str | None) -> list[Happened]:
        """Return what a timeline needs of a transaction's events."""
        found = await asyncio.to_thread(self._reader.of_transaction, provider, transaction_id, source)
        timeline = []
        for event in found:
            fields = [event.attributes, event.data]
            fields += [event.fields.get(name, b"") for name in ("copies", "differing", "copy_of")]
            if (each := happened(event.id, fields, provider, transaction_id, source)) is not None:
                timeline.append(each)
        return timeline


def _view(known: Known) -> EventView:
    return EventView(
        id=known.id,
        received_at=rfc3339_ms(received_ms(known.id)),
        source=known.source,
        type=known.type,
        deliveries=known.deliveries,
        held={},
        copies=known.copies,
        differing=known.differing,
        copy_of=known.copy_of,
        **{name: getattr(known.shown, name) for name in Shown.__struct_fields__},
    )


def _copy(copy: ArchivedCopy) -> CopyView:
    return CopyView(
        id=copy.id,
        received_at=rfc3339_ms(received_ms(copy.id)),
        source=copy.source,
        of=copy.copy_of,
        identical=None if copy.differs is None else not copy.differs,
    )


def deliveries_of(event: ArchivedEvent, *, answers: bool) -> list[DeliveryView]:
    """Return the deliveries of an archived event, in the order of its targets."""
    made: dict[str, list[Attempt]] = {}
    for field, value in event.attempts.items():
        # A target's name holds no space.
        made.setdefault(field.partition(" ")[0], []).append(read_attempt(value))
    views = []
    for target, end in event.ends.items():
        attempts = sorted(made.get(target, ()), key=lambda attempt: attempt.at_ms)
        failed, reason = int(event.text(f"failed:{target}") or 0), event.fields.get(f"why:{target}")
        given_up = end in ("disk", "expired", "discarded")
        views.append(
            DeliveryView(
                target=target,
                state=state_of(end),
                failed=failed,
                due_at=None,
                leased_until=None,
                attempts=[attempt_view(attempt, answers=answers) for attempt in attempts],
                why=why_given_up(reason, failed, attempts[-1] if attempts else None) if given_up else None,
            )
        )
    return views
