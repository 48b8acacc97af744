"""One request and its answer under uvicorn: the whole answer goes out in one write.

uvicorn writes the head and the body of an answer apart: two system calls, of which the second costs as
much as all the rest that is done for the request. It also checks each header of each answer; here the
few heads that there are are made once.
"""

from functools import lru_cache

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

Headers = tuple[tuple[bytes, bytes], ...]


@lru_cache(maxsize=1024)
def head(status: int, headers: Headers) -> bytes:
    """Return the head of an answer, but for the empty line at its end. `headers` are our own, and sound."""
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)


class Cycle(RequestResponseCycle):
    """A request whose answer is one message of a known length, as all of ours are."""

    _head = b""

    async def send(self, message: ASGISendEvent) -> None:
        """Keep the head until the body is here; then write both."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self.response_started = True
            self.waiting_for_100_continue = False
            self._head = head(message["status"], tuple(message["headers"]))
            return
        if message["type"] != "http.response.body" or message.get("more_body") or not self._head:
            raise RuntimeError("an answer here is one start and one body")
        body = b"" if self.scope["method"] == "HEAD" else message["body"]
        ending = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((self._head, ending, body)))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
