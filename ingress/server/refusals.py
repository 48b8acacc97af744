"""What the server answers by itself, without the application. The connection ends after each of these."""

import asyncio
from functools import lru_cache
from http import HTTPStatus

from ingress.server.gate import LINGERING_AT_MOST, Gate

LINGER_S = 0.5


@lru_cache
def status_line(status: int) -> bytes:
    """Return the first line of an answer."""
    phrase = HTTPStatus(status).phrase if status in {*HTTPStatus} else ""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode())


def refusal(status: int, reason: bytes, more: bytes = b"") -> bytes:
    """Return an answer, whole."""
    body = b'{"error":"%b"}' % reason
    head = b"content-type: application/json\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n"
    return status_line(status) + head % (len(body), more) + body


UNREADABLE = {400: refusal(400, b"bad request"), 431: refusal(431, b"header fields too large")}
FAILED = refusal(500, b"internal error")
UNAVAILABLE = refusal(503, b"temporarily unavailable, try again", b"retry-after: 5\r\n")


class TurnedAway(asyncio.Protocol):
    """A connection for which there is no room. It is told so, and what it sends is dropped for a moment.

    A socket that is closed with data unread is reset, and its client would never see the answer. Few at a
    time have that moment.
    """

    def __init__(self, gate: Gate, transport: asyncio.Transport) -> None:
        self._gate = gate
        gate.lingering += 1
        transport.set_protocol(self)
        transport.write(UNAVAILABLE)
        if gate.lingering > LINGERING_AT_MOST:
            transport.close()
        else:
            transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another one to linger."""
        self._gate.lingering -= 1
