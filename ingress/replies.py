"""What a caller is told. It gives nothing away: a wrong token looks like a source that is not there."""

from functools import lru_cache
from typing import NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

END, CLOSE_END = b"\r\n", b"connection: close\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Reply(NamedTuple):
    """An answer of JSON bytes. `head` lacks END or CLOSE_END."""

    status: int
    head: bytes
    body: bytes

    def whole(self, *, keep_alive: bool, with_body: bool = True) -> bytes:
        """Return all that is sent, for one write: a second costs as much as all else that is done."""
        return b"".join((self.head, END if keep_alive else CLOSE_END, self.body if with_body else b""))


@lru_cache(maxsize=64)
def _head(status: int, length: int, more: bytes = b"") -> bytes:
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b" % (
        STATUS_LINE[status],
        length,
        more,
    )


def refusal(status: int, reason: bytes, more: bytes = b"") -> Reply:
    """Return an answer that says what was wrong. `more` is further headers."""
    body = b'{"error":"%b"}' % reason
    return Reply(status, _head(status, len(body), more), body)


def committed(event_id: str) -> Reply:
    """Return the answer to what is safe in Redis."""
    body = b'{"id":"%b"}' % event_id.encode()
    return Reply(200, _head(200, len(body)), body)


BAD_REQUEST = refusal(400, b"bad request")
UNAUTHORIZED = refusal(401, b"unauthorized")
NOT_FOUND = refusal(404, b"not found")
NOT_ALLOWED = refusal(405, b"method not allowed", b"allow: POST\r\n")
# The connection stays open: what is still coming is read and dropped, for as long as a body may take.
# Closed at once, it would be reset, and the sender would never see the answer.
TOO_LARGE = refusal(413, b"body too large")
HEADERS_TOO_LARGE = refusal(431, b"header fields too large")
FAILED = refusal(500, b"internal error")
UNAVAILABLE = refusal(503, b"temporarily unavailable, try again", b"retry-after: 5\r\n")
NOTHING_TO_STORE = Reply(200, _head(200, 2), b"{}")
