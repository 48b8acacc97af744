"""What all connections of one process may cost together: how many, and how many requests at once.

`ingress.protocol` asks at each connection and each request; what one request may cost stands there too.
"""

import asyncio
import resource
from collections import Counter
from typing import Protocol

import structlog

from shared.config import IngressSettings

log = structlog.get_logger()

TELL_S = 1.0
LINGERING_AT_MOST = 64
# Files beside the connections: Redis, the listening socket, logs, and those that are told to go.
OTHER_FILES = 64 + LINGERING_AT_MOST


class Connection(Protocol):
    """What the gate knows of a connection."""

    def make_room(self) -> None:
        """Close at once and leave the gate: it is idle, and another needs its place."""


class Gate:
    """Counts the connections of a process, and holds the limits that its requests are under."""

    def __init__(self, settings: IngressSettings) -> None:
        self.open = 0
        self.in_flight = 0  # requests, beside those that uvicorn has tasks for
        self.lingering = 0
        # Those that wait for a request's first byte, the longest first: a dict keeps the order for nothing.
        self.idle: dict[Connection, None] = {}
        self._told: Counter[str] = Counter()
        self.use(settings)

    def use(self, settings: IngressSettings) -> None:
        """Take up a configuration: for connections that come and requests that begin from now on."""
        self.max_header_bytes = settings.max_header_bytes
        self.max_header_count = settings.max_header_count
        self.header_timeout_s: float = settings.header_timeout
        self.body_timeout_s: float = settings.body_timeout
        self.max_requests_in_flight = settings.max_requests_in_flight
        self.max_connections = _with_files_for(settings.max_connections)

    def enter(self) -> bool:
        """Count a connection in, if need be in the longest idle one's place; False where all are at work.

        Idle ones never keep a new one out. nginx does the same; the alternative, to leave new ones in the
        listening socket's backlog, lets a provider run into its time-out for an answer.
        """
        if self.open >= self.max_connections:
            if not self.idle:
                self.tell("connections_refused")
                return False
            next(iter(self.idle)).make_room()
            self.tell("idle_closed")
        self.open += 1
        return True

    def tell(self, what: str) -> None:
        """Count what a limit made necessary, for one log line a second: a line each would be another load."""
        if not self._told:
            asyncio.get_running_loop().call_later(TELL_S, self._tell)
        self._told[what] += 1

    def _tell(self) -> None:
        log.warning("at a limit", connections=self.open, **self._told)
        self._told.clear()


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
