"""The connections of one process that wait for their clients, by client."""

from typing import Protocol


class Connection(Protocol):
    """What the gate knows of a connection."""

    client: str
    """Its client, as `client_key` returns it."""
    held_bytes: int
    """What is held of a request that is not complete. Only the gate sets it."""
    deadline: float
    """When it is closed, by the loop's clock."""

    def make_room(self) -> None:
        """Close at once and leave the gate: another needs its place."""

    def time_is_up(self) -> None:
        """Close: the deadline has passed."""

    def end(self) -> None:
        """Close once what has begun is answered: the process is to end."""


class Waiting:
    """Connections that wait, by client. It knows which client has most of them without counting."""

    def __init__(self) -> None:
        self.count = 0
        self.most = 0
        self._of: dict[str, dict[Connection, None]] = {}  # the longest waiting first: a dict keeps the order
        self._with: dict[int, dict[str, None]] = {}  # how many → the clients that have so many

    def add(self, connection: Connection) -> None:
        """Take up one that begins to wait."""
        of = self._of.setdefault(connection.client, {})
        of[connection] = None
        self.count += 1
        self._move(connection.client, len(of) - 1, len(of))

    def remove(self, connection: Connection) -> None:
        """Drop one that waits no more. Its `client` is still what it was at `add`."""
        of = self._of[connection.client]
        del of[connection]
        self.count -= 1
        self._move(connection.client, len(of) + 1, len(of))
        if not of:
            del self._of[connection.client]

    def _move(self, client: str, before: int, after: int) -> None:
        if before:
            del self._with[before][client]
            if not self._with[before]:
                del self._with[before]
        if after:
            self._with.setdefault(after, {})[client] = None
        if after > self.most or self.most not in self._with:
            self.most = after  # counts change by one, so that no other client has more

    def longest(self) -> Connection:
        """Return the one that waits longest, of the client that has most."""
        client = next(iter(self._with[self.most]))
        return next(iter(self._of[client]))

    def largest(self) -> Connection | None:
        """Return the longest waiting one with bytes, of the client that holds most; None if none holds."""
        held = {client: sum(each.held_bytes for each in of) for client, of in self._of.items()}
        client = max(held, key=held.__getitem__, default=None)
        return next((each for each in self._of[client] if each.held_bytes), None) if client else None
