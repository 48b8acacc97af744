"""Reads requests from the bytes of a connection with httptools, within limits on what is sent beside a body.

A head and its trailers have `ingress.max_header_bytes` in at most `max_header_count` fields. A request that
two readers could read in two ways is refused.
"""

from typing import Protocol, cast

import httptools
import msgspec

from ingress.limits import Headers

# What is sent beside a field's name and value, and beside a byte in a chunk of its own.
FIELD_FRAMING_BYTES, CHUNK_FRAMING_BYTES = 4, 8


class Head(msgspec.Struct):
    """The head of a request. Header names are lower-case; `path` is not unquoted."""

    method: str
    version: str
    path: bytes
    query: bytes
    headers: Headers
    keep_alive: bool
    expects_continue: bool


class Limits(Protocol):
    """How much a head with its trailers may be."""

    max_header_bytes: int
    max_header_count: int


class Receiver(Protocol):
    """What is told of requests."""

    def request_begins(self) -> None:
        """The first byte of a request is here."""

    def head_is_here(self, head: Head) -> None:
        """A head is complete."""

    def body_is_here(self, body: bytes) -> None:
        """A part of the body is here."""

    def request_ends(self) -> bool:
        """The request is complete. Returns whether another may follow; if not, what comes is dropped."""


class BadRequest(Exception):
    """What came is no request that can be read. `status` is 400 or 431."""

    def __init__(self, status: int) -> None:
        self.status = status


class RequestReader:
    """Reads the requests of one connection."""

    def __init__(self, limits: Limits, receiver: Receiver) -> None:
        self.part = ""
        """What of a request comes in: "head", "body", or nothing."""
        self.ended = False
        """Whether nothing more is read."""
        self._limits, self._receiver = limits, receiver
        self._parser = httptools.HttpRequestParser(self)
        self._head_again = False
        self._status = 400
        self._start()

    def _start(self) -> None:
        self._url, self._headers = b"", cast("Headers", [])
        self._header_bytes = self._header_count = self._framing_bytes = 0

    @property
    def head_bytes(self) -> int:
        """How much came of the head and the trailers of the request that comes in."""
        return self._header_bytes

    def feed(self, data: bytes) -> int:
        """Read data; return how much of it was read: the rest is to be fed again. Raises: BadRequest."""
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade()
            return int(upgrade.args[0])
        except httptools.HttpParserError:
            if self.ended:
                return len(data)
            self.ended = True
            raise BadRequest(self._status) from None
        # What never ends, a field or a chunk's extension, reaches no callback below.
        limits = self._limits
        most = limits.max_header_bytes + FIELD_FRAMING_BYTES * limits.max_header_count
        if self.part and self._framing_bytes > most:
            self.ended = True
            raise BadRequest(431 if self.part == "head" else 400)
        return len(data)

    def _ignore_upgrade(self) -> None:
        """Read on as if no upgrade had been asked for (RFC 9110, 7.8).

        The parser takes such a request for ended with its head. Another one is told how its body is framed.
        """
        framing = [field for field in self._headers if field[0] in (b"content-length", b"transfer-encoding")]
        self._parser = httptools.HttpRequestParser(self)
        self._head_again = True
        lines = [b"%b: %b\r\n" % field for field in framing]
        self._parser.feed_data(b"POST / HTTP/1.1\r\nhost: x\r\n%b\r\n" % b"".join(lines))

    # What httptools calls. Any error stops it: `feed` answers for it.

    def on_message_begin(self) -> None:
        """A request begins."""
        if self.ended:
            raise BadRequest(400)
        if not self._head_again:
            self._start()
            self.part = "head"
            self._receiver.request_begins()

    def on_url(self, url: bytes) -> None:
        """A part of the target is here."""
        if not self._head_again:
            self._url += url
            self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is here; or a trailer, which counts as one and is dropped: it must not pass for one."""
        if self._head_again:
            return
        self._header_bytes += len(name) + len(value)
        self._header_count += 1
        self._insist_on_limits()
        if self.part == "head":
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._head_again:
            self._head_again = False
            return
        self._insist_on_limits()
        head = self._head()
        self.part = "body"
        self._framing_bytes = 0
        self._receiver.head_is_here(head)

    def on_body(self, body: bytes) -> None:
        """A part of the body is here."""
        self._framing_bytes = max(0, self._framing_bytes - len(body) * (1 + CHUNK_FRAMING_BYTES))
        self._receiver.body_is_here(body)

    def on_message_complete(self) -> None:
        """The request has ended; or only its head has, if it asks for an upgrade."""
        if not self._parser.should_upgrade():
            self.part = ""
            self.ended = not self._receiver.request_ends()

    def _insist_on_limits(self) -> None:
        limits = self._limits
        if self._header_count > limits.max_header_count or self._header_bytes > limits.max_header_bytes:
            self._status = 431
            raise BadRequest(431)

    def _head(self) -> Head:
        version, method = self._parser.get_http_version(), self._parser.get_method()
        hosts, expects_continue, codings = 0, False, []
        for name, value in self._headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings.append(value.lower())
            elif name == b"expect":
                expects_continue = version == "1.1" and value.lower() == b"100-continue"
        # RFC 9112, 3.2 and 6.1.
        if (
            version not in ("1.0", "1.1")
            or method == b"CONNECT"
            or hosts > 1
            or (version == "1.1" and not hosts)
        ):
            raise BadRequest(400)
        if codings and (version == "1.0" or codings != [b"chunked"]):
            raise BadRequest(400)
        url = httptools.parse_url(self._url)
        return Head(
            method=method.decode("ascii"),
            version=version,
            path=url.path or b"/",
            query=url.query or b"",
            headers=self._headers,
            keep_alive=version == "1.1" and self._parser.should_keep_alive(),
            expects_continue=expects_continue,
        )
