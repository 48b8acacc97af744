"""One request and its answer, as an ASGI application knows them: a scope, `receive` and `send`."""

import asyncio
from typing import Protocol

from starlette.types import Message, Scope

from ingress.server.refusals import status_line

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(Protocol):
    """The methods of a connection that an exchange calls."""

    def write(self, data: bytes) -> None:
        """Send bytes; drop them if the client is gone."""

    async def drained(self) -> None:
        """Wait until the client has read enough of what was sent."""

    def regulate(self) -> None:
        """Read on, or let the client wait: the application has taken the part of the body that was there."""

    def answered(self, exchange: "Exchange") -> None:
        """Go on: the whole answer is written."""


class Exchange:
    """A request from its head on, and its answer."""

    received = unread = 0
    """Bytes of the body: all that came, and those that the application has not taken."""
    whole = False
    """Whether the whole request is here."""
    lost = False
    """Whether the client is gone."""
    head_sent = answered = False
    """Whether the head of the answer is written, and whether all of it is."""
    proven = False
    """Whether the credentials were found to be right."""
    task: asyncio.Task[None] | None = None
    """The task that answers it."""

    def __init__(
        self, connection: Connection, scope: Scope, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        """`keep_alive`: whether another one may follow on its connection."""
        self.scope = scope
        self.keep_alive = keep_alive
        self.waits_for_continue = expects_continue
        self._connection = connection
        self._body: list[bytes] = []
        self._given = False  # the end of the body, to the application
        self._change: asyncio.Future[None] | None = None
        self._start: Message | None = None
        self._chunked = False

    def add(self, body: bytes) -> None:
        """Take a part of the body; drop it if the request was answered already."""
        self.received += len(body)
        if not self.answered:
            self._body.append(body)
            self.unread += len(body)
            self._wake()

    def complete(self) -> None:
        """The body has ended."""
        self.whole = True
        self.waits_for_continue = False
        self._wake()

    def lose(self) -> None:
        """The client is gone. A whole request is still processed; nobody gets the answer."""
        self.lost = True
        self._wake()

    def _wake(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def receive(self) -> Message:
        """Return the next part of the body, or that the client is gone: ASGI's `receive`."""
        if self.waits_for_continue and not self.received and not self.answered:
            self.waits_for_continue = False
            self._connection.write(CONTINUE)
        while not (self.lost or self.answered or self._body or (self.whole and not self._given)):
            self._change = asyncio.get_running_loop().create_future()
            await self._change
        if self.answered or self._given or (self.lost and not self.whole):
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self.unread = 0
        self._given = self.whole
        if not self.whole:
            self._connection.regulate()
        return {"type": "http.request", "body": body, "more_body": not self.whole}

    async def send(self, message: Message) -> None:
        """Write a part of the answer: ASGI's `send`.

        Head and body go in one write: a second one would double the cost of a request.
        """
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self.answered or (self.lost and not self.whole) or self._start is None:
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        head = b"" if self.head_sent else self._head(self._start, more=more)
        self.head_sent = True
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk if more else chunk + b"0\r\n\r\n"
        self._connection.write(head + body)
        if more:
            await self._connection.drained()
        else:
            self.answered = True
            self._body.clear()
            self._connection.answered(self)

    def _head(self, start: Message, *, more: bool) -> bytes:
        headers = start.get("headers", ())
        lines = [status_line(start["status"])]
        lines += [b"%b: %b\r\n" % (name, value) for name, value in headers]
        if more and not any(name == b"content-length" for name, _ in headers):
            # Without a length, chunks show where the answer ends, or else the end of the connection.
            self._chunked = self.scope["http_version"] != "1.0"
            self.keep_alive &= self._chunked
            lines += [b"transfer-encoding: chunked\r\n"] if self._chunked else []
        if self.waits_for_continue:
            # It is unknown whether a client that was not told to go on sends its body now.
            self.keep_alive = False
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)
