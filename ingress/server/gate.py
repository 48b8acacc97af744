"""The limits of all connections of a process together: their number, and the bytes of incomplete requests.

A connection *waits* while its client has something to send: the first byte of a request, or the rest of one.
If there is no room, the connection that waits longest, of the client that has most of them waiting, makes
room: slow clients close each other's connections, and a client that sends promptly is taken. A request whose
credentials were found to be right is closed only if no other is left.

`ingress.server.connection` asks at each connection and each request, and bounds what one request costs.
"""

import asyncio
import resource
from collections import Counter
from contextlib import suppress
from typing import Protocol

import structlog

from ingress.clients import AddressList
from shared.settings import IngressSettings

log = structlog.get_logger()

RECEIVED_BYTES = 64 * 1024  # by a connection at once: it bounds the bytes that are received and not read yet
LOOK_S = 0.25
TELL_S = 1.0
LINGERING_AT_MOST = 64
# Files beside the connections: Redis, the listening socket, logs, and connections that are turned away.
OTHER_FILES = 64 + LINGERING_AT_MOST


class Connection(Protocol):
    """The attributes and methods of a connection that the gate uses."""

    client: str
    """Its client, as `client_key` returns it."""
    deadline: float
    """When it will be closed, by the loop's clock."""
    waits_among: "Waiting | None"
    """The set of waiting connections that it is in. Only the gate sets it."""
    held_bytes: int
    """The bytes that are held of its incomplete request. Only the gate sets it."""

    def make_room(self) -> None:
        """Close at once and leave the gate: another needs its place."""

    def time_is_up(self) -> None:
        """Close: the deadline has passed."""

    def end(self) -> None:
        """Close once all requests that have begun are answered: the process ends."""


class Waiting:
    """Connections that wait, by client. It knows the client with the most of them without looking at all:
    strangers may fill it, and each connection that comes then costs no more.
    """

    def __init__(self) -> None:
        self.count = 0
        self.most = 0
        self._of: dict[str, dict[Connection, None]] = {}  # the longest waiting first: a dict keeps the order
        self._with: dict[int, dict[str, None]] = {}  # a count → the clients that have so many

    def add(self, connection: Connection) -> None:
        """Add a connection that begins to wait."""
        of = self._of.setdefault(connection.client, {})
        of[connection] = None
        self.count += 1
        self._move(connection.client, len(of) - 1, len(of))

    def remove(self, connection: Connection) -> None:
        """Remove a connection that no longer waits. Its `client` must be that of `add`."""
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
            self.most = after  # counts change by one, so no other client has more

    def longest(self) -> Connection:
        """Return the longest waiting connection of the client with the most. There must be one."""
        client = next(iter(self._with[self.most]))
        return next(iter(self._of[client]))

    def largest(self) -> Connection | None:
        """Return the longest waiting connection with bytes, of the client with the most bytes; None if there
        are none.
        """
        held = {client: sum(each.held_bytes for each in of) for client, of in self._of.items()}
        client = max(held, key=held.__getitem__, default=None)
        return next((each for each in self._of[client] if each.held_bytes), None) if client else None


class Gate:
    """Counts the connections of a process, and holds the limits for its requests."""

    def __init__(self, settings: IngressSettings) -> None:
        self.buffer = memoryview(bytearray(RECEIVED_BYTES))
        self.connections: set[Connection] = set()
        self.lingering = 0
        self.ending = False
        """Whether the process ends."""
        self.held_bytes = 0
        self.idle, self.unproven, self.proven = Waiting(), Waiting(), Waiting()
        self._looking = False
        self._emptied: asyncio.Future[None] | None = None
        self._turned_away: Counter[str] = Counter()
        self.configure(settings)

    def configure(self, settings: IngressSettings) -> None:
        """Apply a configuration to connections and requests that begin from now on."""
        self.max_header_bytes = settings.max_header_bytes
        self.max_header_count = settings.max_header_count
        self.header_timeout_s: float = settings.header_timeout
        self.body_timeout_s: float = settings.body_timeout
        self.max_incomplete_requests = settings.max_incomplete_requests
        # With less than two of the largest requests, one would close the next.
        largest = settings.max_body_bytes + settings.max_header_bytes
        self.max_incomplete_bytes = max(settings.max_incomplete_bytes, 2 * largest)
        self.trusted = AddressList(settings.trusted_proxies)
        self.max_connections = _with_files_for(settings.max_connections)

    @property
    def incomplete(self) -> int:
        """How many requests have begun and are not complete."""
        return self.unproven.count + self.proven.count

    def enter(self, connection: Connection) -> bool:
        """Count a new connection, if needed in place of one that waits. Returns False if all are at work.

        The alternative, to leave new ones in the listening socket's backlog, lets a provider run into its
        time-out for an answer.
        """
        if len(self.connections) >= self.max_connections:
            waiting = max(self.idle, self.unproven, key=lambda each: each.most)
            waiting = waiting if waiting.count else self.proven
            if not waiting.count:
                self.tell("connections_refused")
                return False
            self.tell("idle_closed" if waiting is self.idle else "incomplete_closed")
            waiting.longest().make_room()
        self.connections.add(connection)
        self._look_later()
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self.go_on(connection)
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def wait(self, connection: Connection, *, incomplete: bool, proven: bool = False) -> None:
        """Record that it waits from now on: for a request, or if `incomplete`, for the rest of one.

        This may close it.
        """
        self.go_on(connection)
        among = self.idle if not incomplete else self.proven if proven else self.unproven
        connection.waits_among = among
        among.add(connection)
        if incomplete and self.incomplete > self.max_incomplete_requests:
            self.tell("incomplete_closed")
            (self.unproven if self.unproven.count else self.proven).longest().make_room()

    def go_on(self, connection: Connection) -> None:
        """Record that it no longer waits: its request is complete, or it is gone."""
        if connection.waits_among is not None:
            connection.waits_among.remove(connection)
            connection.waits_among = None
            self.held_bytes -= connection.held_bytes
            connection.held_bytes = 0

    def hold(self, connection: Connection, count: int) -> None:
        """Record how many bytes are held of its request. This may close it."""
        self.held_bytes += count - connection.held_bytes
        connection.held_bytes = count
        while self.held_bytes > self.max_incomplete_bytes:
            largest = self.unproven.largest() or self.proven.largest()
            if largest is None:
                return
            self.tell("incomplete_closed")
            largest.make_room()

    async def end(self, within_s: float) -> None:
        """End every connection: each answers what it has begun, within `within_s` seconds."""
        self.ending = True
        for connection in tuple(self.connections):
            connection.end()
        self._emptied = asyncio.get_running_loop().create_future()
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied, within_s)
        for connection in tuple(self.connections):
            connection.time_is_up()

    def tell(self, what: str) -> None:
        """Count what was turned away; one log line a second reports it, so that a flood does not flood the
        log.
        """
        if not self._turned_away:
            asyncio.get_running_loop().call_later(TELL_S, self._tell)
        self._turned_away[what] += 1

    def _tell(self) -> None:
        log.warning("turned away", connections=len(self.connections), **self._turned_away)
        self._turned_away.clear()

    def _look_later(self) -> None:
        """Close, a little later, all connections that are past their deadline.

        One look at all is plainer than a timer of each, and a timer that is set and cancelled for every part
        of every request was a tenth of what a request costs.
        """
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = False
        now = asyncio.get_running_loop().time()
        for connection in tuple(self.connections):
            if connection.deadline <= now:
                connection.time_is_up()
        if self.connections:
            self._look_later()


def _with_files_for(connections: int) -> int:
    """Raise the limit of open files for so many connections. Returns how many connections are possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    if hard != resource.RLIM_INFINITY and hard < wanted:
        wanted = hard
        connections = max(1, hard - OTHER_FILES)
        log.warning(
            "fewer connections than ingress.max_connections: this process may not open so many files",
            connections=connections,
            files=hard,
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return connections
