"""What all connections of one process may cost together: how many, and how much of what is not complete.

A connection *waits* while its client has something to send: the first byte of a request, or the rest of one.
If there is no room, the connection that waits longest, of the client that has most of them waiting, makes
room: slow clients close each other's connections, and a client that sends promptly is taken. A request whose
credentials are known to be right gives way only if no other is left.

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

RECEIVED_BYTES = 64 * 1024  # by a connection at once: it bounds what one may hold that is not read yet
LOOK_S = 0.25
TELL_S = 1.0
LINGERING_AT_MOST = 64
# Files beside the connections: Redis, the listening socket, logs, and those that are told to go.
OTHER_FILES = 64 + LINGERING_AT_MOST


class Connection(Protocol):
    """What the gate knows of a connection."""

    client: str
    """Its client, as `client_key` returns it."""
    deadline: float
    """When it is closed, by the loop's clock."""
    waits_among: "Waiting | None"
    """Those that it waits with. Only the gate sets it."""
    held_bytes: int
    """What is held of a request that is not complete. Only the gate sets it."""

    def make_room(self) -> None:
        """Close at once and leave the gate: another needs its place."""

    def time_is_up(self) -> None:
        """Close: the deadline has passed."""

    def end(self) -> None:
        """Close once what has begun is answered: the process is to end."""


class Waiting:
    """Connections that wait, by client; the longest waiting first: a dict keeps the order."""

    def __init__(self) -> None:
        self.count = 0
        self._of: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection) -> None:
        """Take up one that begins to wait."""
        self._of.setdefault(connection.client, {})[connection] = None
        self.count += 1

    def remove(self, connection: Connection) -> None:
        """Drop one that waits no more. Its `client` is still what it was at `add`."""
        of = self._of[connection.client]
        del of[connection]
        if not of:
            del self._of[connection.client]
        self.count -= 1

    def of_one_client(self) -> int:
        """Return how many the client has that has most of them."""
        return max(map(len, self._of.values()), default=0)

    def longest(self) -> Connection:
        """Return the one that waits longest, of the client that has most; there is one."""
        client = max(self._of, key=lambda client: len(self._of[client]))
        return next(iter(self._of[client]))

    def largest(self) -> Connection | None:
        """Return the longest waiting one with bytes, of the client that holds most; None if none holds."""
        held = {client: sum(each.held_bytes for each in of) for client, of in self._of.items()}
        client = max(held, key=held.__getitem__, default=None)
        return next((each for each in self._of[client] if each.held_bytes), None) if client else None


class Gate:
    """Counts the connections of a process, and holds the limits that its requests are under."""

    def __init__(self, settings: IngressSettings) -> None:
        self.buffer = memoryview(bytearray(RECEIVED_BYTES))
        self.connections: set[Connection] = set()
        self.lingering = 0
        self.ending = False
        """Whether the process is."""
        self.held_bytes = 0
        self.idle, self.unproven, self.proven = Waiting(), Waiting(), Waiting()
        self._looking = False
        self._emptied: asyncio.Future[None] | None = None
        self._told: Counter[str] = Counter()
        self.configure(settings)

    def configure(self, settings: IngressSettings) -> None:
        """Take up a configuration: for connections that come and requests that begin from now on."""
        self.max_header_bytes = settings.max_header_bytes
        self.max_header_count = settings.max_header_count
        self.header_timeout_s: float = settings.header_timeout
        self.body_timeout_s: float = settings.body_timeout
        self.max_incomplete_requests = settings.max_incomplete_requests
        # Less than two of the largest requests would close a provider's for the one before it.
        largest = settings.max_body_bytes + settings.max_header_bytes
        self.max_incomplete_bytes = max(settings.max_incomplete_bytes, 2 * largest)
        self.trusted = AddressList(settings.trusted_proxies)
        self.max_connections = _with_files_for(settings.max_connections)

    @property
    def incomplete(self) -> int:
        """How many requests have begun and are not complete."""
        return self.unproven.count + self.proven.count

    def enter(self, connection: Connection) -> bool:
        """Count a connection in, if need be in the place of one that waits; False if all are at work.

        The alternative, to leave new ones in the listening socket's backlog, lets a provider run into its
        time-out for an answer.
        """
        if len(self.connections) >= self.max_connections:
            waiting = max(self.idle, self.unproven, key=Waiting.of_one_client)
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
        """Note that it waits, from now on: for a request, or if `incomplete` for the rest of one.

        It may have to make room itself.
        """
        self.go_on(connection)
        among = self.idle if not incomplete else self.proven if proven else self.unproven
        connection.waits_among = among
        among.add(connection)
        if incomplete and self.incomplete > self.max_incomplete_requests:
            self.tell("incomplete_closed")
            (self.unproven if self.unproven.count else self.proven).longest().make_room()

    def go_on(self, connection: Connection) -> None:
        """Note that it waits no more: its request is complete, or it is gone."""
        if connection.waits_among is not None:
            connection.waits_among.remove(connection)
            connection.waits_among = None
            self.held_bytes -= connection.held_bytes
            connection.held_bytes = 0

    def hold(self, connection: Connection, count: int) -> None:
        """Note how much is held of the request that it sends. It may have to make room itself."""
        self.held_bytes += count - connection.held_bytes
        connection.held_bytes = count
        while self.held_bytes > self.max_incomplete_bytes:
            largest = self.unproven.largest() or self.proven.largest()
            if largest is None:
                return
            self.tell("incomplete_closed")
            largest.make_room()

    async def end(self, within_s: float) -> None:
        """Have every connection end: each answers what it has begun, within so many seconds."""
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
        """Count what was turned away, for one log line a second: a line each would be another load."""
        if not self._told:
            asyncio.get_running_loop().call_later(TELL_S, self._tell)
        self._told[what] += 1

    def _tell(self) -> None:
        log.warning("turned away", connections=len(self.connections), **self._told)
        self._told.clear()

    def _look_later(self) -> None:
        """Close in a moment what is past its deadline.

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
    """Let this process open as many files as that takes; return how many connections it may really have."""
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
