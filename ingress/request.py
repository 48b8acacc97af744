"""One request to `/webhooks/…`: what its connection and the endpoint say to each other, in plain calls.

It stands where uvicorn has a cycle, in order with the others of its connection. ASGI's scope, messages, event
and task cost more than all that is done for a request here.
"""

import asyncio
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

import httptools

from ingress.limits import Headers
from ingress.replies import Reply
from ingress.source import Source

if TYPE_CHECKING:
    from ingress.protocol import LimitedProtocol

CACHED_URL_BYTES = 512


class Endpoint(Protocol):
    """Who answers requests. Each is answered once, at once or later, by its `end`."""

    max_body_bytes: int

    def begin(self, request: "Request") -> None:
        """The head is here, and all before it on its connection is answered: refuse it, or let it go on."""

    def complete(self, request: "Request") -> None:
        """The body is here, or is too long already."""

    def lost(self, request: "Request") -> None:
        """Its sender left before the body was here: there is nobody to answer."""


class Request:
    """A request, from its head on."""

    __slots__ = (
        "begun",
        "body",
        "connection",
        "disconnected",
        "endpoint",
        "expects_continue",
        "headers",
        "keep_alive",
        "max_body_bytes",
        "method",
        "name",
        "response_complete",
        "size",
        "source",
        "started",
        "token",
        "whole",
    )
    # uvicorn sets it where a connection is lost; nobody waits for it.
    message_event = asyncio.Event()

    def __init__(
        self,
        connection: "LimitedProtocol",
        endpoint: Endpoint,
        path: tuple[str, str | None],
        *,
        keep_alive: bool,
    ) -> None:
        """`path` is as `webhook_path` returns it."""
        self.connection = connection
        self.endpoint = endpoint
        self.name, self.token = path
        self.source: Source | None = None  # as the endpoint has it when it begins
        self.method: bytes = connection.parser.get_method()
        self.headers: Headers = connection.headers
        self.expects_continue = connection.expect_100_continue
        self.max_body_bytes = endpoint.max_body_bytes
        self.started = 0.0
        self.body: bytes | bytearray = b""
        self.size = 0
        self.whole = False
        self.begun = False
        # What uvicorn wants to know of a cycle.
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False

    @property
    def peer(self) -> str | None:
        """The address that the connection comes from; None where it has none."""
        client = self.connection.client
        return client[0] if client else None

    def begin(self) -> None:
        """Start on it: all before it on its connection is answered."""
        connection = self.connection
        if connection.transport.is_closing():
            return
        self.begun = True
        self.started = perf_counter()
        connection.gate.in_flight += 1
        self.endpoint.begin(self)
        if not self.response_complete and (self.whole or self.size > self.max_body_bytes):
            self.endpoint.complete(self)

    def add(self, chunk: bytes) -> None:
        """Take a part of the body, and hold no more than may be: the parser gives what it has."""
        self.size += len(chunk)
        if self.size > self.max_body_bytes:
            self.body = b""
            if self.begun:
                self.endpoint.complete(self)
        elif not self.body:
            self.body = chunk
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)  # it grows in place: a body may come byte by byte
            self.body += chunk

    def complete(self) -> None:
        """Note that its last byte is here."""
        self.whole = True
        if self.begun:
            self.endpoint.complete(self)

    def lose(self) -> None:
        """Note that its connection is gone. What is being committed is committed all the same."""
        if self.begun and not self.whole and not self.response_complete:
            self.endpoint.lost(self)

    def end(self, reply: Reply | None) -> None:
        """It is done with: answer it, if there is somebody to answer."""
        self.connection.gate.in_flight -= 1
        self.body = b""  # an idle connection keeps its last request
        if reply is None:
            self.response_complete = True
        else:
            self.answer(reply)

    def answer(self, reply: Reply) -> None:
        """Write the answer, in one piece."""
        self.response_complete = True
        connection = self.connection
        transport = connection.transport
        if transport.is_closing():
            return
        transport.write(reply.whole(keep_alive=self.keep_alive, with_body=self.method != b"HEAD"))
        # What of its body still comes is dropped first, unless its sender waits to be told to send it.
        if not self.keep_alive and (self.whole or self.expects_continue):
            transport.close()
        connection.on_response_complete()


def webhook_path(url: bytes) -> tuple[str, str | None] | None:
    """Return the source's name and the token in `/webhooks/<source>[/<token>]`; None for another path.

    Raises: httptools.HttpParserInvalidURLError.
    """
    # A token is as well kept in this cache as in the configuration; only what anybody sends must not fill it.
    return _cached(url) if len(url) <= CACHED_URL_BYTES else _read(url)


def _read(url: bytes) -> tuple[str, str | None] | None:
    path = (httptools.parse_url(url).path or b"").decode("ascii")
    parts = (unquote(path) if "%" in path else path).split("/")
    if parts[1:2] != ["webhooks"] or not 3 <= len(parts) <= 4 or not all(parts[2:]):
        return None
    return parts[2], parts[3] if len(parts) == 4 else None


_cached = lru_cache(maxsize=256)(_read)
