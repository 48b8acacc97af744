"""What operators did, in Redis and in the archive as one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from shared.archive.audit import AuditEntry, AuditSearch, position
from shared.event.times import rfc3339_ms
from shared.operations.disk import archive_of
from shared.settings import Config
from shared.store.audit import KEPT, newest
from shared.store.client import RedisClient

if TYPE_CHECKING:
    from shared.archive.reader import Reader


class AuditView(msgspec.Struct, frozen=True):
    """One action, as it was noted before it began at `at` (RFC 3339).

    `selected` is what it was asked to act on. `planned`: what was counted (`deliveries`, `requests`) → by
    target, source or reason, how many that were.
    """

    id: str
    at: str
    action: str
    user: str
    selected: Any
    planned: dict[str, Any]


def audit_of(client: RedisClient, config: Config) -> Audit:
    """Return the audit of a configuration's gateway."""
    return Audit(client, archive_of(config))


class Audit:
    """The entries there are. All methods raise StoreUnavailable and ArchiveUnavailable."""

    def __init__(self, client: RedisClient, archive: Reader | None = None) -> None:
        self._client = client
        self._archive = archive

    async def entries(self, wanted: AuditSearch, limit: int, before: str | None = None) -> list[AuditView]:
        """Return up to `limit` entries, newest first; with `before`, only those that are older than it."""
        # Redis is read first: an entry is written to the archive before it leaves Redis.
        found = {entry.id: entry for entry in await newest(self._client, wanted, limit, before)}
        if self._archive is not None:
            archived = await asyncio.to_thread(self._archive.audit.page, wanted, limit, before)
            found |= {entry.id: entry for entry in archived}
        ids = sorted(found, key=position, reverse=True)[:limit]
        return [_view(found[id]) for id in ids]

    async def actions(self) -> list[str]:
        """Return the actions that there are entries of."""
        found = {entry.action for entry in await newest(self._client, AuditSearch(), 2 * KEPT)}
        if self._archive is not None:
            found |= {*await asyncio.to_thread(self._archive.audit.actions)}
        return sorted(found)


def _view(entry: AuditEntry) -> AuditView:
    planned = {
        name: value for name, value in entry.fields.items() if name not in ("action", "user", "selected")
    }
    return AuditView(
        entry.id, rfc3339_ms(entry.at_ms), entry.action, entry.user, entry.fields.get("selected"), planned
    )
