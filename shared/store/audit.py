"""What operators did: one entry for each action, written before the action."""

from typing import Any

import msgspec

from shared.store.client import RedisClient, translated

KEPT = 10_000
NAMES = 20


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
