"""Turns of admission, one step at a time: workers take as they admit."""

from shared.store.admission import Entry
from shared.store.inbox import Inbox


class Turns(Inbox):
    """The inboxes of all sources."""

    async def take_in_turn(self, source: str, holder: str) -> list[Entry] | None:
        """Take what comes next; None unless `holder` has the turn, which ends if nothing does."""
        return self._taken_in_turn(source, await self._client.run(*self._take_call(source, holder)))
