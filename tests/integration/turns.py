"""Turns of admission, one step at a time: workers begin one and take in it at once."""

from shared.store.inbox import Inbox, begin_turn_call


class Turns(Inbox):
    """The inboxes of all sources."""

    async def begin_turn(self, source: str, holder: str) -> bool:
        """Be the one who admits from a source; False where it is another's turn."""
        return bool(await self._client.run(*begin_turn_call(self._keys, source, holder)))
