"""One HTTP/1.1 connection in front of an ASGI application, with limits on what is not complete yet.

A general ASGI server leaves partial heads and bodies open for long. Here a request has
`ingress.header_timeout` for its head and `ingress.body_timeout` for its body, in wall-clock time, so that a
drip does not extend it.
"""

import asyncio
import math
from collections import deque
from typing import Any, cast

import structlog
from starlette.types import ASGIApp, Scope

from ingress.clients import client_address, client_key, parse_address
from ingress.server.exchange import Exchange
from ingress.server.gate import Gate, Waiting
from ingress.server.reader import BadRequest, RequestReader
from ingress.server.refusals import FAILED, UNAVAILABLE, UNREADABLE, TurnedAway

log = structlog.get_logger()

KEEP_ALIVE_S = 5.0
LAST_CALL_S = 0.5
CLOSE_WITHIN_S = 5.0
# Read at once: it bounds what is held of requests that follow each other without a pause, and for how long
# they keep those of other connections waiting.
PIECE_BYTES = 2 * 1024
# What a request takes that is held, beside its bytes.
REQUEST_BYTES = 2 * 1024
# Held of a body that the application has not taken; then the client has to wait.
MAX_UNREAD_BYTES = 64 * 1024


class Connection(asyncio.BufferedProtocol):
    """One connection. Its requests are answered in their order, one at a time."""

    _transport: asyncio.Transport

    def __init__(self, app: ASGIApp, gate: Gate, state: dict[str, Any]) -> None:
        """`state` is what the application's lifespan left for its requests."""
        self.client = ""
        self.deadline = math.inf
        self.waits_among: Waiting | None = None
        self.held_bytes = 0
        self._app, self._gate, self._state = app, gate, state
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(gate, self._begin)
        self._unread = b""
        # Those that are not answered; the first of them the application answers now.
        self._exchanges: deque[Exchange] = deque()
        self._last_words = b""
        self._doing: tuple[str, int, bool] | None = None
        self._ending = False  # the process is
        self._eof = self._reading_paused = self._writing_paused = False
        self._drained: asyncio.Future[None] | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock: a connection that sends nothing counts as one that drips its headers."""
        self._transport = cast("asyncio.Transport", transport)
        peer, server = (transport.get_extra_info(name) for name in ("peername", "sockname"))
        self._peer = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        self._scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "http",
            "root_path": "",
            "client": self._peer,
            "server": (str(server[0]), int(server[1])) if isinstance(server, tuple) else None,
            "extensions": {"headrace.proven": {"tell": self._proven}},
        }
        self.client = client_key(parse_address(self._peer[0]) if self._peer else None)
        if self._gate.enter(self):
            self._settle()
            self.deadline = self._loop.time() + self._gate.header_timeout_s
            if self._gate.ending:
                self.end()
        else:
            TurnedAway(self._gate, self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything. What is complete is taken all the same, and answered to nobody."""
        self._gate.leave(self)
        for exchange in self._exchanges:
            exchange.lose()
        self.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to receive into: one buffer for all, as what is there is read at once."""
        return self._gate.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read requests."""
        self._unread += self._gate.buffer[:nbytes]
        self._read()

    def eof_received(self) -> bool:
        """Answer what is complete: the client may have closed its side only."""
        self._eof = True
        return bool(self._exchanges) and self._exchanges[0].whole

    def pause_writing(self) -> None:
        """Read and answer no more for a client that does not read its answers."""
        self._writing_paused = True
        self._settle()

    def resume_writing(self) -> None:
        """Go on: the answers have been read."""
        self._writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._read()

    def _begin(self, head: dict[str, Any], keep_alive: bool, expects_continue: bool) -> Exchange:
        """Line up a request whose head is here."""
        if trusted := self._gate.trusted:
            self._gate.go_on(self)
            self._doing = None
            self.client = client_key(client_address(self._peer and self._peer[0], head["headers"], trusted))
        scope = {**self._scope, **head, "state": self._state.copy()}
        keep_alive = keep_alive and not self._ending
        exchange = Exchange(self, scope, keep_alive=keep_alive, expects_continue=expects_continue)
        self._exchanges.append(exchange)
        return exchange

    # What an exchange calls

    def write(self, data: bytes) -> None:
        """Send bytes; drop them if nobody is there."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read enough of what was sent."""
        if self._writing_paused:
            self._drained = self._loop.create_future()
            await self._drained

    def answered(self, exchange: Exchange) -> None:
        """Go on with the next request, or with the rest of this one's body: the answer is written."""
        self._exchanges.popleft()
        if exchange.waits_for_continue:
            self._close()
        elif not exchange.keep_alive and exchange.whole:
            self._reader.ended = True
            self._exchanges.clear()
        self._read()

    # Reading and answering

    def _read(self) -> None:
        """Read, as long as no request waits for the one before it; and have the next one answered."""
        data, at = self._unread, 0
        try:
            while at < len(data) and len(self._exchanges) < 2 and not self._reader.ended:
                at += self._reader.feed(data[at : at + PIECE_BYTES])
        except BadRequest as error:
            self._refuse(error.status)
        self._unread = b"" if self._reader.ended else data[at:]
        first = self._exchanges[0] if self._exchanges else None
        if first and not (first.task or self._writing_paused or self._transport.is_closing()):
            first.task = self._loop.create_task(self._answer(first))
        self._settle()

    async def _answer(self, exchange: Exchange) -> None:
        """Have the application answer. If it ends without a whole answer, the connection ends."""
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Exception:
            log.exception("the application failed")
        if not exchange.answered:
            exchange.answered = True
            if exchange in self._exchanges and not self._transport.is_closing():
                self._close(b"" if exchange.head_sent else FAILED)

    def _proven(self) -> None:
        """Note that the request that is being answered has shown its credentials.

        An application may call it: `scope["extensions"]["headrace.proven"]["tell"]`. The request is then the
        last to be given up when too many are incomplete.
        """
        if self._exchanges:
            self._exchanges[0].proven = True
            if not self._exchanges[0].whole:
                self._settle()

    def _refuse(self, status: int) -> None:
        """Say so once all before it is answered."""
        self._gate.tell("bad_requests")
        self._last_words = UNREADABLE[status]
        current = self._reader.current
        if self._reader.part == "body" and current is not None:
            if current.answered:
                self._last_words = b""
            else:
                self._exchanges.remove(current)
                current.lose()
        self._reader.part = ""

    def _settle(self) -> None:
        """Say at the gate what is waited for, set the time for it, and read on or not."""
        if self._transport.is_closing():
            return
        reader, first = self._reader, self._exchanges[0] if self._exchanges else None
        if first is None and (self._eof or (reader.ended and not reader.part)):
            self._close(self._last_words)
            return
        if self._writing_paused:
            what = "reading"
        elif first is not None and first.whole:
            what = "nothing"
        else:
            what = reader.part or "request"
        gate, current = self._gate, reader.current
        doing = (what, reader.requests, current is not None and current.proven)
        if doing != self._doing:
            before, self._doing = self._doing, doing
            if what == "nothing":
                gate.go_on(self)
                self.deadline = math.inf
            else:
                gate.wait(self, incomplete=what != "request", proven=doing[2])
                if before is None or before[:2] != doing[:2]:
                    self.deadline = self._loop.time() + self._time_s(what)
        if what not in ("request", "nothing") and not self._transport.is_closing():
            body = current.received if current is not None and not current.answered else 0
            queued = len(self._unread) + self._transport.get_write_buffer_size()
            gate.hold(self, reader.head_bytes + body + queued + REQUEST_BYTES * len(self._exchanges))
        self.regulate()

    def _time_s(self, what: str) -> float:
        """Return how long it is waited for."""
        if what == "request":
            return KEEP_ALIVE_S
        return self._gate.header_timeout_s if what == "head" else self._gate.body_timeout_s

    def regulate(self) -> None:
        """Read from the client, or let it wait."""
        current = self._reader.current
        full = current is not None and not current.answered and current.unread > MAX_UNREAD_BYTES
        pause = full or self._writing_paused or bool(self._unread)
        if pause != self._reading_paused and not self._transport.is_closing() and not self._eof:
            self._reading_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # Ending

    def _close(self, words: bytes = b"") -> None:
        """Close once all that was written is sent; `time_is_up` cuts it off."""
        self._reader.ended = True
        self._unread = b""
        if words:
            self.write(words)
        self._gate.go_on(self)
        self.deadline = self._loop.time() + CLOSE_WITHIN_S
        self._transport.close()

    def make_room(self) -> None:
        """Close at once and leave the gate: another needs the place. Whoever has sent a head is told."""
        self._gate.leave(self)
        told = bool(self._exchanges) and not self._exchanges[0].head_sent
        for exchange in self._exchanges:
            exchange.lose()
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._close(UNAVAILABLE if told else b"")

    def time_is_up(self) -> None:
        """Close: the deadline has passed."""
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._close()

    def end(self) -> None:
        """End, because the process does; but answer a request that is on its way already.

        The client of a connection that was just accepted would have a reset for an answer, and did no wrong.
        """
        self._ending = True
        if self._exchanges:
            self._exchanges[-1].keep_alive = False
        self._loop.call_later(LAST_CALL_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._exchanges and not self._reader.part and not self._transport.is_closing():
            self._close()
