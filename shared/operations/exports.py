"""Exports events, oldest first, to files of a month each. Redis and the archive are read as one.

It asks `Events` for one short span of time after another, which is as long as a page of events fills: so it
holds no more than a page, and an event that moves meanwhile is neither missed nor exported twice.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shared.archive.months import Month, month_at
from shared.archive.search import Search
from shared.delivery.formats import compose
from shared.errors import ExportFailed
from shared.event.record import EventRecord
from shared.event.times import rfc3339_ms
from shared.operations.archived import Archived, deliveries_of
from shared.operations.disk import archive_of, dead_letter_file
from shared.operations.events import Events
from shared.operations.export_files import Checked, Files, MonthFile, Seal, label, parted, read, writing
from shared.settings import Config
from shared.store.client import RedisClient
from shared.store.events import AT_ONCE, fitting
from shared.store.finished import Finished
from shared.store.letters import Letters
from shared.store.views import ON_DISK, CopyView, DeliveryView, EventView
from shared.store.walk import Span

PAGE = 1000
HOUR_MS = 3_600_000
MOST_MS = 64 * 24 * HOUR_MS
ALL = 2**31 - 1  # of a millisecond

View = EventView | CopyView


def exports_of(client: RedisClient, config: Config) -> Exports:
    """Return what exports all that a configuration's gateway keeps of events."""
    archive = archive_of(config)
    return Exports(
        client,
        Events(client, dead_letter_file(config), archive),
        None if archive is None else Archived(archive),
    )


class Exports:
    """Writes exports. All methods raise StoreUnavailable, ArchiveUnavailable and ExportFailed."""

    def __init__(
        self, client: RedisClient, events: Events, archived: Archived | None = None, *, page: int = PAGE
    ) -> None:
        self._client = client
        self._events = events
        self._finished = Finished(client)
        self._letters = Letters(client)
        self._archived = archived
        self._page = page

    async def run(
        self, wanted: Search, to: Path, done: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[Checked]:
        """Write what is searched for to a file for each month, and yield each when it is whole.

        `done` is told how many lines there are so far. If there is a file of the month before, the first one
        continues it; if not, the first one is that of the first month in which anything came in. The search
        must have an end.
        """
        files, named = parted(to)
        if named is not None:
            raise ExportFailed(f"{to}: name it without a month: each month gets a file of its own")
        months = _months(wanted)
        _check_free(files, months)
        previous = _continued(files, wanted, months[0])
        lines = 0
        for month in months:
            part = _within(wanted, month)
            pages = self._pages(part)
            page = await anext(pages, None)
            if page is None and previous is None:
                continue
            seal = _seal(part, month, previous)
            with writing(files.of(month)) as file:
                while page is not None:
                    seal = await self._write(file, page, seal)
                    done(lines + seal.events + seal.duplicates)
                    page = await anext(pages, None)
                seal = file.seal(seal)
            lines += seal.events + seal.duplicates
            previous = seal.digest
            yield Checked(str(files.of(month)), seal)

    async def _write(self, file: MonthFile, page: Sequence[View], seal: Seal) -> Seal:
        """Write a page. Returns the last line, with its events counted."""
        events, duplicates = seal.events, seal.duplicates
        async for view, line in self._lines(page):
            file.write(line)
            events += isinstance(view, EventView)
            duplicates += isinstance(view, CopyView)
        return msgspec.structs.replace(seal, events=events, duplicates=duplicates)

    async def _pages(self, wanted: Search) -> AsyncIterator[list[View]]:
        """Yield what is searched for, oldest first, about a page at a time."""
        since_ms, length = wanted.since_ms, HOUR_MS
        while since_ms <= wanted.until_ms:
            until_ms = min(since_ms + length - 1, wanted.until_ms)
            limit = self._page if until_ms > since_ms else ALL
            part = msgspec.structs.replace(wanted, since_ms=since_ms, until_ms=until_ms)
            found = await self._listed(part, limit + 1)
            if len(found) > limit:
                length = (until_ms - since_ms + 1) // 2
                continue
            if found:
                yield found
            if len(found) < self._page // 4:
                length = min(2 * length, MOST_MS)
            since_ms = until_ms + 1

    async def _listed(self, wanted: Search, limit: int) -> list[View]:
        found: dict[str, View] = {}
        if not wanted.narrowed:  # a duplicate was never read, so nothing else of it can be searched for
            span = Span(wanted.since_ms, wanted.until_ms)
            found = {view.id: view for view in await self._events.copies(span, wanted.source, limit)}
        found |= {view.id: view for view in await self._events.events(wanted, limit)}
        return [found[id] for id in sorted(found)]

    async def _lines(self, page: Sequence[View]) -> AsyncIterator[tuple[View, bytes]]:
        """Yield the line of each; what retention has removed meanwhile has none."""
        start = 0
        while start < len(page):
            part = page[start : start + AT_ONCE]
            part = part[: await fitting(self._client, [view.id for view in part])]
            kept = await self._kept([view for view in part if isinstance(view, EventView)])
            for view in part:
                if isinstance(view, CopyView):
                    body = await self._events.payload(view)
                    yield view, _copy_line(view, body if isinstance(body, bytes) else None)
                elif view.id in kept:
                    yield view, _event_line(view, *kept[view.id])
            start += len(part)

    async def _kept(self, views: Sequence[EventView]) -> dict[str, tuple[EventRecord, list[DeliveryView]]]:
        """Return events as they are delivered, and their deliveries."""
        ids = [view.id for view in views]
        found = {event.id: event for event in await self._finished.whole(ids)}
        if self._archived is not None:
            gone = await self._letters.gone([id for id in ids if id not in found])
            found |= {event.id: event for event in await self._archived.events(gone)}
        kept: dict[str, tuple[EventRecord, list[DeliveryView]]] = {}
        for view in views:
            event = found.get(view.id)
            if event is not None and ON_DISK not in event.ends.values():
                kept[view.id] = event.record, deliveries_of(event, answers=True)
                continue
            # It is open, or a dead letter on the disk has the rest of it.
            record = await self._events.payload(view)
            deliveries = await self._events.deliveries(view.id, answers=True)
            if isinstance(record, EventRecord) and deliveries is not None:
                kept[view.id] = record, deliveries
        return kept


def _months(wanted: Search) -> list[Month]:
    first, last = month_at(wanted.since_ms), month_at(wanted.until_ms)
    return [Month(number) for number in range(first.number, last.number + 1)]


def _check_free(files: Files, months: Sequence[Month]) -> None:
    for month in [*months, months[-1].next]:
        if files.of(month).exists():
            why = (
                "remove it, or export to another name" if month in months else "only a later one can be added"
            )
            raise ExportFailed(f"{files.of(month)} is there already: {why}")


def _continued(files: Files, wanted: Search, first: Month) -> str | None:
    """Return the digest of the month before the first one, None if that has no file."""
    before = Month(first.number - 1)
    path = files.of(before)
    if not path.exists():
        return None
    seal, now = read(path, before), _seal(wanted, first, None)
    if seal.search != now.search:
        raise ExportFailed(f"{path} was exported by another search: export to another name")
    if seal.until != rfc3339_ms(first.begins_ms - 1) or wanted.since_ms != first.begins_ms:
        raise ExportFailed(
            f"{path} ends at {seal.until}, and this export begins at {now.since}:"
            " what came in between would be in no file"
        )
    return seal.digest


def _within(wanted: Search, month: Month) -> Search:
    """Return the part of a search that is about one month."""
    return msgspec.structs.replace(
        wanted,
        since_ms=max(wanted.since_ms, month.begins_ms),
        until_ms=min(wanted.until_ms, month.next.begins_ms - 1),
    )


def _seal(wanted: Search, month: Month, previous: str | None) -> Seal:
    search: dict[str, Any] = msgspec.to_builtins(wanted)
    return Seal(
        month=label(month),
        since=rfc3339_ms(wanted.since_ms),
        until=rfc3339_ms(wanted.until_ms),
        search={name: value for name, value in search.items() if name not in ("since_ms", "until_ms")},
        events=0,
        duplicates=0,
        previous=previous,
        digest="",
    )


def _event_line(view: EventView, record: EventRecord, deliveries: Sequence[DeliveryView]) -> bytes:
    original, exact = _embedded(record.body)
    payload = compose(msgspec.structs.replace(record, body=original), "cloudevents")[1]
    return _line({"event": view, "payload": msgspec.Raw(payload), "deliveries": deliveries} | exact)


def _copy_line(view: CopyView, body: bytes | None) -> bytes:
    """Return the line of a duplicate; `body` is None if it is the first's."""
    if body is None:
        return _line({"duplicate": view})
    original, exact = _embedded(body)
    return _line({"duplicate": view, "body": msgspec.Raw(original)} | exact)


def _embedded(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a body as JSON in one line; and the exact bytes, if that is not them."""
    exact = {"body_base64": base64.b64encode(body).decode()}
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b"null", exact
    # No string of JSON has a line break in it that is not escaped.
    in_one_line = body.replace(b"\r", b" ").replace(b"\n", b" ")
    return in_one_line, {} if in_one_line == body else exact


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
