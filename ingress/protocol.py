"""uvicorn's HTTP protocol with limits on what comes before a request is complete.

uvicorn leaves partial headers and bodies open for ever and takes headers of any size. Here a request
has `HEADERS_S` to send its headers and `BODY_S` for its body, counted in wall-clock time so that a
drip does not extend it, and `HEADER_BYTES` in at most `HEADER_COUNT` headers (else 431).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEADER_BYTES = 16 * 1024
HEADER_COUNT = 100
HEADERS_S = 10.0
BODY_S = 20.0
LAST_CALL_S = 0.5


class TooManyHeaders(Exception):
    """Raised inside the parser's callbacks to stop it; answered as 431."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._heads = 0
        self._in_body = False
        self._leaving = False
        self._header_bytes = 0
        self._unfinished_bytes = 0
        self._refused_as: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that sends nothing counts as one that drips its headers."""
        super().connection_made(transport)
        self._set_deadline(HEADERS_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and bound a header section that has not ended yet."""
        heads, waiting = self._heads, not self._in_body
        super().data_received(data)
        if waiting and self._heads == heads and not self.transport.is_closing():
            # A single endless header never reaches `on_header`: the parser would buffer it whole.
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > HEADER_BYTES:
                self._refuse(431)

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        super().on_message_begin()
        self._header_bytes = 0
        self._unfinished_bytes = 0
        self._set_deadline(HEADERS_S)

    def on_url(self, url: bytes) -> None:
        """A part of the request line, which counts as the headers do."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header is complete."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, length: int) -> None:
        self._header_bytes += length
        if self._header_bytes > HEADER_BYTES or len(self.headers) >= HEADER_COUNT:
            self._refused_as = 431
            raise TooManyHeaders

    def on_headers_complete(self) -> None:
        """The headers are complete; now the body has its time."""
        self._heads += 1
        self._unfinished_bytes = 0
        self._in_body = True
        self._set_deadline(BODY_S)
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The request is complete: from here on it is ours to answer."""
        self._clear_deadline()
        self._in_body = False
        super().on_message_complete()

    def shutdown(self) -> None:
        """End this connection, because the process ends: but answer a request that is on its way already.

        uvicorn closes a connection that it has just accepted, and its sender, which did nothing wrong, gets a
        reset for an answer.
        """
        self._leaving = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LAST_CALL_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser stopped at: broken HTTP, or what a callback above refused."""
        self._refuse(self._refused_as or 400)

    def _refuse(self, status: int) -> None:
        self._clear_deadline()
        body = b'{"error":"header fields too large"}' if status == 431 else b'{"error":"bad request"}'
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(seconds, self._too_late)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
