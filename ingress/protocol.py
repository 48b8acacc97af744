"""uvicorn's HTTP protocol with limits on what comes before a request is complete, and on how many there are.

uvicorn leaves partial headers and bodies open for ever and takes headers of any size. Here a request has
`ingress.header_timeout` to send its headers and `ingress.body_timeout` for its body, counted in wall-clock
time so that a drip does not extend it, and `max_header_bytes` in at most `max_header_count` headers (else
431). What is beyond `max_requests_in_flight` or `max_connections` is told to come again: 503.

uvicorn's own `limit_concurrency` counts idle connections as load, answers without `retry-after`, turns the
health checks away too, and starts the application's task to say so.
"""

import asyncio
from collections import deque
from enum import Enum
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ingress.deadline import Deadline
from ingress.gate import LINGERING_AT_MOST, Gate
from ingress.replies import BAD_REQUEST, HEADERS_TOO_LARGE, UNAVAILABLE
from ingress.request import Endpoint, Request, webhook_path

LAST_CALL_S = 0.5
LINGER_S = 0.5


class TooManyHeaders(Exception):
    """Raised inside the parser's callbacks to stop it; answered as 431."""


class Part(Enum):
    """What of a request is coming in."""

    HEAD = "head"
    BODY = "body"
    NONE = "none"


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    cycle: RequestResponseCycle | Request | None  # type: ignore[assignment]
    pipeline: deque[tuple[RequestResponseCycle | Request, ASGI3Application]]  # type: ignore[assignment]

    def __init__(self, gate: Gate, endpoint: Endpoint, *args: Any, **kwargs: Any) -> None:
        """`endpoint` answers webhooks; the application that uvicorn was given, all else."""
        super().__init__(*args, **kwargs)
        self.gate = gate
        self._endpoint = endpoint
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
        if self.gate.enter():
            self._entered = True
            self.gate.idle[self] = None
            self._deadline.set(self.gate.header_timeout_s)
        else:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._deadline.stop()
        self._leave()
        super().connection_lost(exc)
        if isinstance(self.cycle, Request):
            self.cycle.lose()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and bound what has not ended yet."""
        if self._turned_away:
            return
        self.gate.idle.pop(self, None)
        self._chunk_bytes = len(data)
        self._head_bytes += self._chunk_bytes
        heads = self._heads
        super().data_received(data)
        if self._part is Part.NONE or self.transport.is_closing():
            return  # most requests come whole, and need no clock
        same = self._heads == heads
        if same and self._part is Part.HEAD and self._head_bytes > self.gate.max_header_bytes:
            # A single endless header never reaches `on_header`: the parser would buffer it whole.
            self._refuse(431)
        elif not same or self._timed_part is not self._part:
            self._timed_part = self._part
            gate = self.gate
            self._deadline.set(gate.header_timeout_s if self._part is Part.HEAD else gate.body_timeout_s)

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._part = Part.HEAD
        self._head_bytes = self._chunk_bytes

    def on_headers_complete(self) -> None:
        """The headers are complete: the request may begin, if they are within their limits."""
        gate = self.gate
        # What came so far bounds what they can be: they are counted only where that does not suffice.
        if len(self.headers) > gate.max_header_count or (
            self._head_bytes > gate.max_header_bytes and self._header_bytes() > gate.max_header_bytes
        ):
            self._refused_as = 431
            raise TooManyHeaders
        self._heads += 1
        self._part = Part.BODY
        path = webhook_path(self.url)
        before = self.cycle
        first = before is None or before.response_complete
        busy = first and self._is_busy()  # pipelined, its answer would be taken for the one before
        if path is None and not busy:
            self._begin_asgi()
            return
        keep_alive = (
            self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0" and not self._leaving
        )
        request = Request(self, self._endpoint, path or ("", None), keep_alive=keep_alive)
        self.cycle = request
        if busy:
            request.answer(UNAVAILABLE)
            gate.tell("requests_refused")
        elif first:
            request.begin()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((request, self.app))

    def _header_bytes(self) -> int:
        """Count the headers, and the request line, which counts as they do."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _begin_asgi(self) -> None:
        """Let uvicorn make a scope and a cycle: only what is not a webhook is worth that."""
        url, headers, expects_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects_continue
        self.headers += headers
        super().on_headers_complete()
        if self._leaving and self.cycle is not None:
            self.cycle.keep_alive = False

    def _is_busy(self) -> bool:
        """Tell whether this request is told to come again, before its body is read."""
        if self.gate.in_flight + len(self.tasks) < self.gate.max_requests_in_flight:
            return False
        # Not health, which must not fail for being busy; all else is refused unread anyway.
        return self.parser.get_method() == b"POST"

    def on_body(self, body: bytes) -> None:
        """A part of a body is here."""
        cycle = self.cycle
        if isinstance(cycle, Request):
            if not cycle.response_complete:  # else it is dropped
                cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete: from here on it is ours to answer."""
        self._part = self._timed_part = Part.NONE
        self._deadline.clear()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            # It was answered before its body was here. uvicorn would wait for the next one for ever.
            if not self.transport.is_closing():
                if cycle is None or cycle.keep_alive:
                    self._wait_for_next()
                else:
                    self.transport.close()
        elif isinstance(cycle, Request):
            cycle.complete()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out: go on with what was pipelined, or wait for the next request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        waiting = self.pipeline.pop() if self.pipeline else None
        self._read_on()
        if waiting:
            cycle, app = waiting
            if isinstance(cycle, Request):
                self.loop.call_soon(cycle.begin)  # it may be answered at once, and thousands behind it
            else:
                self._start_asgi_task(cycle, app)
        elif self._part is Part.NONE:  # else the rest of what was refused still comes
            self._wait_for_next()

    def pause_writing(self) -> None:
        """Read no more from who does not read the answers."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Read on: the answers have been read."""
        super().resume_writing()
        self._read_on()

    def _read_on(self) -> None:
        if not self.pipeline and not self.flow.write_paused:
            self.flow.resume_reading()

    def _wait_for_next(self) -> None:
        self._deadline.set(self.timeout_keep_alive)
        self.gate.idle[self] = None

    def make_room(self) -> None:
        """Close at once and leave the gate: it is idle, and another needs its place."""
        self._leave()
        self.transport.close()

    def _leave(self) -> None:
        self.gate.idle.pop(self, None)
        if self._entered:
            self._entered = False
            self.gate.open -= 1
        elif self._turned_away:
            self._turned_away = False
            self.gate.lingering -= 1

    def _turn_away(self) -> None:
        """Say that there is no room, and drop what comes for a moment; few at a time have that moment.

        A socket that is closed with data unread is reset, and its sender would never see the answer.
        """
        self._turned_away = True
        self.gate.lingering += 1
        self.transport.write(UNAVAILABLE.whole(keep_alive=False))
        if self.gate.lingering > LINGERING_AT_MOST:
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
        reply = HEADERS_TOO_LARGE if status == 431 else BAD_REQUEST
        self.transport.write(reply.whole(keep_alive=False))
        self.transport.close()

    def _close(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
