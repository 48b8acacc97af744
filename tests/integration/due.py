"""The due sets, one thing at a time: workers settle and claim in one turn."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.event.record import EventRecord
from shared.store.due import BreakerPolicy, Claimed, ClaimRequest, DueSets, Limits, Settlement


class Claims(NamedTuple):
    """What a claim got, with the events."""

    now_ms: int
    entries: list[tuple[Claimed, EventRecord]]
    more: int
    next_due_s: float | None


class Due(DueSets):
    """The due sets of all targets."""

    async def claim(self, target: str, *, most: int, limits: Limits) -> Claims:
        """Claim up to `most` deliveries that are due, within the target's limits."""
        [claims] = (await self.settle_and_claim([], {}, [ClaimRequest(target, most, limits)])).claims
        if isinstance(claims, Exception):
            raise claims
        events = await self.read([claimed.event_id for claimed in claims.entries])
        assert None not in events
        entries = [(claimed, event) for claimed, event in zip(claims.entries, events, strict=True) if event]
        return Claims(claims.now_ms, entries, claims.more, claims.next_due_s)

    async def settle(
        self, batch: Sequence[Settlement], policies: Mapping[str, BreakerPolicy]
    ) -> tuple[list[bool], dict[str, str]]:
        """Write how claims ended; return which of them counted, and the targets that changed."""
        brought = await self.settle_and_claim(batch, policies, [])
        if brought.failure:
            raise brought.failure
        return brought.counted, brought.changes
