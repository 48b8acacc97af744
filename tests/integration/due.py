"""The due sets, one thing at a time: workers settle and claim in one turn."""

from collections.abc import Mapping, Sequence

from shared.store.due import Claims, DueSets, Limits, Patience, Settlement, Wish


class Due(DueSets):
    """The due sets of all targets."""

    async def claim(self, target: str, *, most: int, limits: Limits) -> Claims:
        """Claim up to `most` deliveries that are due, within the target's limits."""
        [claims] = (await self.turn([], {}, [Wish(target, most, limits)])).claims
        if isinstance(claims, Exception):
            raise claims
        return claims

    async def settle(
        self, batch: Sequence[Settlement], patience: Mapping[str, Patience]
    ) -> tuple[list[bool], dict[str, str]]:
        """Write how claims ended; return which of them counted, and the targets that changed."""
        turn = await self.turn(batch, patience, [])
        if turn.failure:
            raise turn.failure
        return turn.counted, turn.news
