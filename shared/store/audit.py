"""What operators did: one entry for each action, written before the action."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.archive.audit import AuditEntry, AuditSearch
from shared.store.client import RedisClient, translated

KEPT = 10_000
NAMES = 20
READ_AT_ONCE = 500


async def note(
    client: RedisClient, action: str, user: str, selected: dict[str, Any], **planned: dict[str, int]
) -> None:
    """Record that `user` is about to do `action`; `planned` has the counts, by what is counted.

    Raises: StoreUnavailable.
    """
    entry: dict[Any, Any] = {"action": action, "user": user, "selected": msgspec.json.encode(selected)}
    entry |= {what: msgspec.json.encode(counts) for what, counts in planned.items()}
    with translated():
        await client.redis.xadd(client.keys.audit, entry, maxlen=KEPT, approximate=True)


def named(ids: tuple[str, ...], what: str) -> dict[str, Any]:
    """Return the first of many ids under the key `what`, and how many there are."""
    return {what: [*ids[:NAMES]], f"{what}_in_all": len(ids)}


async def newest(
    client: RedisClient, wanted: AuditSearch, limit: int, before: str | None = None
) -> list[AuditEntry]:
    """Return up to `limit` entries, newest first; with `before`, only those that are older than it.

    Raises: StoreUnavailable.
    """
    found: list[AuditEntry] = []
    end = str(wanted.until_ms) if before is None else f"({before}"
    while len(found) < limit:
        with translated():
            reply: Any = await client.redis.xrevrange(
                client.keys.audit, end, str(wanted.since_ms), count=READ_AT_ONCE
            )
        entries = [_entry(id, fields) for id, fields in reply]
        found += [entry for entry in entries if entry.at_ms <= wanted.until_ms and wanted.takes(entry)]
        if len(reply) < READ_AT_ONCE:
            break
        end = f"({entries[-1].id}"
    return found[:limit]


async def oldest(client: RedisClient, before_ms: int) -> list[AuditEntry]:
    """Return the oldest entries that were written before a time, READ_AT_ONCE at most.

    Raises: StoreUnavailable.
    """
    with translated():
        reply: Any = await client.redis.xrange(
            client.keys.audit, "-", str(max(0, before_ms - 1)), count=READ_AT_ONCE
        )
    return [_entry(id, fields) for id, fields in reply]


async def remove(client: RedisClient, entries: Sequence[AuditEntry]) -> None:
    """Remove entries that are in the archive. If repeated, nothing changes. Raises: StoreUnavailable."""
    with translated():
        await client.redis.xdel(client.keys.audit, *(entry.id for entry in entries))


def _entry(id: bytes, fields: Mapping[bytes, bytes]) -> AuditEntry:
    return AuditEntry(
        id.decode(), {name.decode("utf-8", "replace"): _value(name, value) for name, value in fields.items()}
    )


def _value(name: bytes, value: bytes) -> Any:
    if name not in (b"action", b"user"):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # shown as it is
    return value.decode("utf-8", "replace")
