"""uvicorn's HTTP protocol with limits on what comes before a request is complete, and on how many there are.

uvicorn leaves partial headers and bodies open for ever and takes headers of any size. Here a request has
`ingress.header_timeout` to send its headers and `ingress.body_timeout` for its body, counted in wall-clock
time so that a drip does not extend it, and `max_header_bytes` in at most `max_header_count` headers (else
431). What is beyond `max_requests_in_flight` or `max_connections` is told to come again: 503.

uvicorn's own `limit_concurrency` counts idle connections as load, answers without `retry-after`, turns the
health checks away too, and starts the application's task to say so.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ingress.gate import LINGERING_AT_MOST, Gate
from ingress.webhooks import RETRY_AFTER_S, UNAVAILABLE

LAST_CALL_S = 0.5
LINGER_S = 0.5

BUSY = STATUS_LINE[503] + b"content-type: application/json\r\nretry-after: %b\r\ncontent-length: %d\r\n" % (
    RETRY_AFTER_S,
    len(UNAVAILABLE[1]),
)


class TooManyHeaders(Exception):
    """Raised inside the parser's callbacks to stop it; answered as 431."""


class Answered:
    """Stands for the cycle of a request that was answered without one: what still comes of it is dropped."""

    response_complete = True

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.message_event = asyncio.Event()


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, gate: Gate, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = gate
        self._entered = False
        self._turned_away = False
        self._deadline: asyncio.TimerHandle | None = None
        self._may_take_s: float | None = None
        self._new_part = False
        self._heads = 0
        self._in_body = False
        self._leaving = False
        self._header_bytes = 0
        self._unfinished_bytes = 0
        self._refused_as: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that sends nothing counts as one that drips its headers."""
        super().connection_made(transport)
        if self._gate.enter():
            self._entered = True
            self._gate.idle[self] = None
            self._set_deadline(self._gate.header_timeout_s)
        else:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._clear_deadline()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and bound a header section that has not ended yet."""
        if self._turned_away:
            return
        self._gate.idle.pop(self, None)
        heads, waiting = self._heads, not self._in_body
        super().data_received(data)
        if self._new_part:
            # Only now: most requests are here whole, and need no timer for a part that has ended already.
            self._new_part = False
            self._clear_deadline()
            if self._may_take_s is not None:
                self._set_deadline(self._may_take_s)
        if waiting and self._heads == heads and not self.transport.is_closing():
            # A single endless header never reaches `on_header`: the parser would buffer it whole.
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > self._gate.max_header_bytes:
                self._refuse(431)

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        super().on_message_begin()
        self._header_bytes = 0
        self._unfinished_bytes = 0
        self._part(self._gate.header_timeout_s)

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
        gate = self._gate
        if self._header_bytes > gate.max_header_bytes or len(self.headers) >= gate.max_header_count:
            self._refused_as = 431
            raise TooManyHeaders

    def on_headers_complete(self) -> None:
        """The headers are complete; now the body has its time."""
        self._heads += 1
        self._unfinished_bytes = 0
        self._in_body = True
        self._part(self._gate.body_timeout_s)
        if len(self.tasks) >= self._gate.max_requests_in_flight and self._shed():
            return
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def _shed(self) -> bool:
        """Answer 503 before the body is read; False where this request must be taken all the same."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # pipelined: an answer now would be taken for the one before
        if self.parser.get_method() != b"POST":
            return False  # health, which must not fail for being busy; all else is refused unread anyway
        keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        cycle = Answered(keep_alive=keep_alive and not self._leaving)
        self.cycle = cycle  # type: ignore[assignment]
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(BUSY + end + UNAVAILABLE[1])
        self._gate.tell("requests_refused")
        return True

    def on_message_complete(self) -> None:
        """The request is complete: from here on it is ours to answer."""
        self._part(None)
        self._in_body = False
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            # It was answered before its body was here. uvicorn would wait for the next one for ever.
            if self.cycle.keep_alive:
                self._wait_for_next()
            else:
                self.transport.close()

    def on_response_complete(self) -> None:
        """The answer is out: go on with what was pipelined, or wait for the next request."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and not self._in_body:
            self._gate.idle[self] = None

    def _wait_for_next(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        self._gate.idle[self] = None

    def make_room(self) -> None:
        """Close at once and leave the gate: it is idle, and another needs its place."""
        self._leave()
        self.transport.close()

    def _leave(self) -> None:
        self._gate.idle.pop(self, None)
        if self._entered:
            self._entered = False
            self._gate.open -= 1
        elif self._turned_away:
            self._turned_away = False
            self._gate.lingering -= 1

    def _turn_away(self) -> None:
        """Say that there is no room, and drop what comes for a moment; few at a time have that moment.

        A socket that is closed with data unread is reset, and its sender would never see the answer.
        """
        self._turned_away = True
        self._gate.lingering += 1
        self.transport.write(BUSY + b"connection: close\r\n\r\n" + UNAVAILABLE[1])
        if self._gate.lingering > LINGERING_AT_MOST:
            self.transport.close()
        else:
            self.transport.write_eof()
            self._set_deadline(LINGER_S)

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

    def _part(self, may_take_s: float | None) -> None:
        """Another part of a request begins, with its own time; None: what follows is up to us."""
        self._may_take_s = may_take_s
        self._new_part = True

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
