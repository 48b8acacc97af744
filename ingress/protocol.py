"""uvicorn's HTTP protocol with limits on what comes before a request is complete.

uvicorn leaves partial headers and bodies open for ever and takes headers of any size. Here a request
has `HEADERS_S` to send its headers and `BODY_S` for its body, counted in wall-clock time so that a
drip does not extend it, and `HEADER_BYTES` in at most `HEADER_COUNT` headers (else 431).
"""

import asyncio
import math
from enum import Enum
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ingress.cycle import Cycle

HEADER_BYTES = 16 * 1024
HEADER_COUNT = 100
HEADERS_S = 10.0
BODY_S = 20.0
LAST_CALL_S = 0.5


class TooManyHeaders(Exception):
    """Raised inside the parser's callbacks to stop it; answered as 431."""


class Phase(Enum):
    """How far a request has come."""

    HEAD = "head"
    BODY = "body"
    DONE = "done"


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    One timer serves all deadlines of a connection: it is set once, and looks when it fires whether the
    deadline has been put off. Timers set and cancelled for every request were a tenth of its cost.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline = 0.0  # by the loop's clock; 0: none
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._heads = 0
        self._phase = self._clock_for = Phase.DONE
        self._leaving = False
        self._unfinished_bytes = 0
        self._refused_as: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that sends nothing counts as one that drips its headers."""
        super().connection_made(transport)
        self._set_deadline(HEADERS_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and bound what has not ended yet."""
        self._unfinished_bytes += len(data)
        heads = self._heads
        super().data_received(data)
        if self._phase is Phase.DONE:
            return  # the usual case: a request that came whole has needed no clock
        if self._phase is Phase.HEAD and self._heads == heads and self._unfinished_bytes > HEADER_BYTES:
            # A single endless header never reaches `on_header`: the parser would buffer it whole.
            if not self.transport.is_closing():
                self._refuse(431)
        elif self._clock_for is not self._phase or self._heads != heads:
            self._clock_for = self._phase
            self._set_deadline(HEADERS_S if self._phase is Phase.HEAD else BODY_S)

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        super().on_message_begin()
        self._phase = Phase.HEAD

    def on_headers_complete(self) -> None:
        """The headers are complete; now the body has its time."""
        # What came together cannot be longer than this: the sum is made only where it may matter.
        if len(self.headers) > HEADER_COUNT or (
            self._unfinished_bytes > HEADER_BYTES and self._header_bytes() > HEADER_BYTES
        ):
            self._refused_as = 431
            raise TooManyHeaders
        self._heads += 1
        self._phase = Phase.BODY
        self._begin_cycle()

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

    def _header_bytes(self) -> int:
        """Count the headers, and the request line, which counts as they do."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_message_complete(self) -> None:
        """The request is complete: from here on it is ours to answer."""
        self._phase = self._clock_for = Phase.DONE
        self._deadline = 0.0
        self._unfinished_bytes = 0
        if self.cycle.response_complete:  # refused before its body was here
            self._set_deadline(self.timeout_keep_alive)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out: the next request may come, for as long as a connection is kept."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        if self._phase is Phase.DONE:  # else the rest of a refused body still comes
            self._set_deadline(self.timeout_keep_alive)

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
        self._deadline = 0.0
        body = b'{"error":"header fields too large"}' if status == 431 else b'{"error":"bad request"}'
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
        if self._deadline < self._timer_at:
            self._arm(self._deadline)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.loop.call_at(when, self._look_at_clock)

    def _look_at_clock(self) -> None:
        now = self.loop.time()
        if not self._deadline:
            # A request is being answered; whatever deadline comes next and is sooner arms the timer anew.
            self._arm(now + self.timeout_keep_alive)
        elif now < self._deadline:
            self._arm(self._deadline)
        elif not self.transport.is_closing():
            self.transport.close()
