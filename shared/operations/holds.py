"""Holds on what is archived: listing, placing and lifting them."""

import asyncio
from secrets import token_hex
from typing import Any

import msgspec

from shared.archive.database import Database
from shared.archive.holds import Hold, Holds
from shared.settings import ArchiveSettings
from shared.store.audit import note
from shared.store.client import RedisClient
from shared.store.clock import now_ms

_NAMED = ("event", "provider", "transaction_id", "source", "since_ms", "until_ms")


class Kept(msgspec.Struct, frozen=True):
    """A hold, and how many archived events it keeps now."""

    hold: Hold
    events: int


class Holding:
    """What is held in one archive. All methods raise StoreUnavailable and ArchiveUnavailable."""

    def __init__(self, client: RedisClient, archive: ArchiveSettings) -> None:
        self._client = client
        self._holds = Holds(Database(archive.url, archive.encryption_keys))

    def close(self) -> None:
        """Close the connections to the archive."""
        self._holds.close()

    async def listing(self) -> list[Kept]:
        """Return all holds, the oldest first."""
        return [await self._kept(hold) for hold in await asyncio.to_thread(self._holds.all)]

    async def place(self, user: str, reason: str, **named: Any) -> Kept:
        """Place a hold on what is named, as `Hold` has it. It is in force when this returns."""
        at_ms = await now_ms(self._client)
        hold = Hold(id=f"hold_{token_hex(4)}", at_ms=at_ms, user=user, reason=reason, **named)
        kept = await self._kept(hold)
        # The audit entry comes first: nothing is held by hand without one.
        await self._note("hold", user, kept)
        await asyncio.to_thread(self._holds.place, hold)
        return kept

    async def lift(self, user: str, kept: Kept) -> bool:
        """Lift a hold. Returns whether it was there."""
        await self._note("hold lifted", user, kept)
        return await asyncio.to_thread(self._holds.lift, kept.hold.id)

    async def events(self, **named: Any) -> int:
        """Return how many archived events a hold on what is named would keep."""
        return (await self._kept(Hold(id="", at_ms=0, user="", reason="", **named))).events

    async def _kept(self, hold: Hold) -> Kept:
        return Kept(hold, await asyncio.to_thread(self._holds.count, hold))

    async def _note(self, action: str, user: str, kept: Kept) -> None:
        names = named(kept.hold)
        span = {end: names.pop(end) for end in ("since_ms", "until_ms") if end in names}
        selected = (
            {"hold": kept.hold.id, "reason": kept.hold.reason} | names | ({"span": span} if span else {})
        )
        await note(self._client, action, user, selected, events={"archived": kept.events})


def named(hold: Hold) -> dict[str, Any]:
    """Return what a hold names, without what it leaves open."""
    return {name: value for name in _NAMED if (value := getattr(hold, name)) is not None}
