"""uvicorn's HTTP protocol with limits on what comes before a request is complete, and on how many there are.

uvicorn leaves partial headers and bodies open for ever and takes headers of any size. Here a request has
`ingress.header_timeout` to send its headers and `ingress.body_timeout` for its body, counted in wall-clock
time so that a drip does not extend it, and `max_header_bytes` in at most `max_header_count` headers (else
431). What is beyond `max_requests_in_flight` or `max_connections` is told to come again: 503.

uvicorn's own `limit_concurrency` counts idle connections as load, answers without `retry-after`, turns the
health checks away too, and starts the application's task to say so.
"""

import asyncio
from enum import Enum
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ingress.cycle import Cycle
from ingress.deadline import Deadline
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


class Part(Enum):
    """What of a request is coming in."""

    HEAD = "head"
    BODY = "body"
    NONE = "none"


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
        self._deadline = Deadline(self.loop, self._close)
        self._part = self._timed_part = Part.NONE
        self._heads = 0
        self._chunk_bytes = 0
        self._head_bytes = 0  # at most; of the request whose head comes in
        self._leaving = False
        self._refused_as: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that sends nothing counts as one that drips its headers."""
        super().connection_made(transport)
        if self._gate.enter():
            self._entered = True
            self._gate.idle[self] = None
            self._deadline.set(self._gate.header_timeout_s)
        else:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._deadline.stop()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and bound what has not ended yet."""
        if self._turned_away:
            return
        self._gate.idle.pop(self, None)
        self._chunk_bytes = len(data)
        self._head_bytes += self._chunk_bytes
        heads = self._heads
        super().data_received(data)
        if self._part is Part.NONE or self.transport.is_closing():
            return  # most requests come whole, and need no clock
        same = self._heads == heads
        if same and self._part is Part.HEAD and self._head_bytes > self._gate.max_header_bytes:
            # A single endless header never reaches `on_header`: the parser would buffer it whole.
            self._refuse(431)
        elif not same or self._timed_part is not self._part:
            self._timed_part = self._part
            gate = self._gate
            self._deadline.set(gate.header_timeout_s if self._part is Part.HEAD else gate.body_timeout_s)

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        super().on_message_begin()
        self._part = Part.HEAD
        self._head_bytes = self._chunk_bytes

    def on_headers_complete(self) -> None:
        """The headers are complete: the request may begin, if they are within their limits."""
        gate = self._gate
        # What came so far bounds what they can be: they are counted only where that does not suffice.
        if len(self.headers) > gate.max_header_count or (
            self._head_bytes > gate.max_header_bytes and self._header_bytes() > gate.max_header_bytes
        ):
            self._refused_as = 431
            raise TooManyHeaders
        self._heads += 1
        self._part = Part.BODY
        if len(self.tasks) >= gate.max_requests_in_flight and self._shed():
            return
        self._begin_cycle()

    def _header_bytes(self) -> int:
        """Count the headers, and the request line, which counts as they do."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _begin_cycle(self) -> None:
        """Start on the request, or put it behind the one that is being answered.

        As uvicorn does, without what does not exist here (upgrades, a root path, its own limit of
        concurrency), and with a cycle of ours.
        """
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        version = self.parser.get_http_version()
        scope["http_version"] = version
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        self.cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive() and not self._leaving,
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

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
        self._part = self._timed_part = Part.NONE
        self._deadline.clear()
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            # It was answered before its body was here. uvicorn would wait for the next one for ever.
            if self.cycle.keep_alive:
                self._wait_for_next()
            else:
                self.transport.close()

    def on_response_complete(self) -> None:
        """The answer is out: go on with what was pipelined, or wait for the next request."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        if self._part is Part.NONE:  # else the rest of what was refused still comes
            self._wait_for_next()

    def _wait_for_next(self) -> None:
        self._deadline.set(self.timeout_keep_alive)
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
            self._deadline.set(LINGER_S)

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
        if self.cycle is None or self.cycle.response_complete:
            self._close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser stopped at: broken HTTP, or what a callback above refused."""
        self._refuse(self._refused_as or 400)

    def _refuse(self, status: int) -> None:
        self._deadline.clear()
        body = b'{"error":"header fields too large"}' if status == 431 else b'{"error":"bad request"}'
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def _close(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
