"""One HTTP/1.1 connection: a request out in one write, its answer read within caps and a deadline.

The client chooses the connection, and decides whether to send once more.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeAlias, cast

import httptools

from shared.errors import EgressError
from shared.http.answer import Answer, Caps
from shared.http.tls import tls_reason

_MAX_INFORMATIONAL = 8
_MAX_RETRY_AFTER_BYTES = 64  # an HTTP date has 29


class Stale(Exception):
    """A connection used before was closed before the first byte of an answer: worth one fresh try."""


Ended: TypeAlias = Callable[[Answer | Exception], None]
"""A callback for the end of an exchange: it gets the answer, or the error."""


class Connection(asyncio.Protocol):
    """One connection, on which one exchange at a time takes place.

    After each exchange, `reusable` says whether another may follow. A connection that is not
    reusable is closed already. `on_lost` is called if it closes while no exchange is under way.
    """

    __slots__ = (
        "_answer_left",
        "_body",
        "_caps",
        "_ended",
        "_framed",
        "_head_done",
        "_head_left",
        "_informational",
        "_keep_alive",
        "_loop",
        "_lost",
        "_message_done",
        "_parser",
        "_retry_after",
        "_started",
        "_status",
        "_stray",
        "_timer",
        "_transport",
        "_truncated",
        "_used",
        "_wrong",
        "idle_since",
        "on_lost",
        "reusable",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, caps: Caps) -> None:
        """Make a protocol for a transport of `loop`."""
        self._loop = loop
        self._caps = caps
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._ended: Ended | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lost: asyncio.Future[None] | None = None
        self._used = False
        self.reusable = False
        self.idle_since = 0.0
        self.on_lost: Callable[[Connection], None] | None = None

    # -- what the client calls

    def exchange(self, request: bytes, deadline: float, ended: Ended) -> None:
        """Send `request`, and call `ended` once, later; `deadline` is in the loop's time.

        If no answer came, `ended` gets an EgressError (`timeout`, `protocol`, `tls`), or Stale. It is not
        called after `abort`.
        """
        self._ended = ended
        self._timer = self._loop.call_at(deadline, self._expire)
        self._answer_left = self._caps.max_answer_bytes
        self._head_left = self._caps.max_head_bytes
        self._body = b""
        self._retry_after: bytes | None = None
        self._started = self._head_done = self._framed = self._message_done = False
        self._keep_alive = self._stray = self._truncated = self.reusable = False
        self._status = self._informational = 0
        self._wrong: str | None = None
        if self._transport is None:
            self._loop.call_soon(self._fail, self._closed_error(None))
        else:
            self._transport.write(request)

    def abort(self) -> None:
        """Close at once, without sending what is buffered. A repeat does nothing.

        `close` would wait for a target that reads nothing, or under TLS for its close_notify.
        """
        self.reusable = False
        self._ended = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    async def wait_lost(self) -> None:
        """Return once the transport has let go of the socket."""
        if self._transport is not None:
            self._lost = self._lost or self._loop.create_future()
            await self._lost

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: under TLS, the handshake is done."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and end the exchange if that was all, too much or wrong."""
        parser = self._parser
        if self._ended is None or parser is None:
            # No exchange is under way: the next answer would be read as a part of this.
            self.abort()
            return
        self._started = True
        self._answer_left -= len(data)
        beyond_head = b""
        if not self._head_done:
            data, beyond_head = data[: self._head_left], data[self._head_left :]
            self._head_left -= len(data)
        try:
            parser.feed_data(data)
            if beyond_head:
                self._feed_beyond_head(parser, beyond_head)
        except httptools.HttpParserUpgrade:
            self._wrong = "the target switched protocols"
        except httptools.HttpParserError as error:
            # The parser's messages are fixed texts and hold nothing of what was received.
            self._wrong = self._wrong or f"the answer is not HTTP/1.1: {error}"
        if self._message_done:
            # An error in the bytes after a complete answer does not concern that answer.
            self._finish(keep=self._keep_alive and self._wrong is None and not self._stray)
        elif self._wrong is not None:
            self._fail(EgressError("protocol", self._wrong))
        elif self._head_done and self._answer_left <= 0:
            self._truncated = True
            self._finish(keep=False)

    def eof_received(self) -> None:
        """End the exchange. `connection_lost` comes too late: it waits until the whole request is sent."""
        self._end(None)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the transport; the socket is closed."""
        self._transport = None
        self._parser = None  # it holds our bound methods: a cycle
        self._end(exc)
        self.abort()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        if self.on_lost is not None:
            self.on_lost(self)

    def _feed_beyond_head(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        if self._head_done:
            parser.feed_data(data)
        else:
            self._wrong = "the head of the answer is too long"

    # -- what the parser calls

    def on_message_begin(self) -> None:
        """Note that an answer begins: a second one was not asked for."""
        if self._message_done:
            self._stray = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few fields that matter, and none of a trailer."""
        if self._head_done:
            return
        length = len(name)  # most names have another length, and need no copy in lower case
        if length == 11 and name.lower() == b"retry-after":
            self._retry_after = value if len(value) <= _MAX_RETRY_AFTER_BYTES else None
        elif (length == 14 and name.lower() == b"content-length") or (
            length == 17 and name.lower() == b"transfer-encoding" and b"chunked" in value.lower()
        ):
            self._framed = True

    def on_headers_complete(self) -> None:
        """Take the status."""
        if not self._message_done and self._parser is not None:
            self._status = self._parser.get_status_code()
            self._head_done = True
            if self._status < 100:  # the parser accepts 099, as a final status
                self._wrong = "the answer's status is not one of HTTP"

    def on_body(self, chunk: bytes) -> None:
        """Keep the first bytes."""
        if self._message_done:
            return
        room = self._caps.keep_body_bytes - len(self._body)
        if len(chunk) > room:
            self._truncated = True
            chunk = chunk[:room]
        self._body = self._body + chunk if self._body else chunk

    def on_message_complete(self) -> None:
        """Skip an informational answer, or note that the final one is whole."""
        if self._message_done or self._wrong is not None or self._parser is None:
            return
        if self._status >= 200:
            self._message_done = True
            self._keep_alive = self._parser.should_keep_alive()  # the parser knows only now
            return
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            self._wrong = "too many informational answers"
        self._head_done = self._framed = False
        self._retry_after = None

    # -- how an exchange ends

    def _finish(self, keep: bool) -> None:
        ended, self._ended = self._ended, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._used = True
        # If the answer came before the whole request was sent, its rest must not be read as the next request.
        if keep and self._transport is not None and self._transport.get_write_buffer_size() == 0:
            self.reusable = True
        else:
            self.abort()
        if ended is not None:
            ended(Answer(self._status, self._retry_after, self._body, self._truncated))

    def _fail(self, error: Exception) -> None:
        ended = self._ended
        self.abort()
        if ended is not None:
            ended(error)

    def _end(self, exc: Exception | None) -> None:
        """The target closed (exc is None) or the connection broke."""
        if self._ended is None:
            return
        if exc is None and self._head_done and not self._framed:
            self._finish(keep=False)  # this answer ends where the connection ends
        else:
            self._fail(self._closed_error(exc))

    def _closed_error(self, exc: Exception | None) -> Exception:
        if self._used and not self._started:
            return Stale()
        if isinstance(exc, ssl.SSLError):
            return EgressError("tls", tls_reason(exc))
        how = "broke" if exc is not None else "was closed by the target"
        return EgressError("protocol", f"the connection {how} {self._phase()}")

    def _expire(self) -> None:
        self._timer = None
        self._fail(EgressError("timeout", f"the deadline passed {self._phase()}"))

    def _phase(self) -> str:
        if self._head_done:
            return "while the answer's body was read"
        if self._started:
            return "while the answer's head was read"
        if self._transport is not None and self._transport.get_write_buffer_size():
            return "while the request was sent"
        return "before an answer came"
