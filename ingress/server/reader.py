"""Reads requests from the bytes of a connection with httptools, within limits on what is sent beside a body.

A head and its trailers have `ingress.max_header_bytes` in at most `max_header_count` fields. Requests that
two servers may read in different ways are refused.
"""

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools

from ingress.clients import Headers
from ingress.server.exchange import Exchange
from ingress.server.gate import Gate

# The bytes beside a field's name and value, and beside a byte that has a chunk of its own.
FIELD_FRAMING_BYTES, CHUNK_FRAMING_BYTES = 4, 8

Begin = Callable[[dict[str, Any], bool, bool], Exchange]
"""Takes the head as a part of ASGI's scope, whether another request may follow, and whether the client waits
to be told to go on. Returns what takes the body."""


class BadRequest(Exception):
    """The bytes are not a request that can be read. `status` is 400 or 431."""

    def __init__(self, status: int) -> None:
        self.status = status


class RequestReader:
    """Reads the requests of one connection."""

    def __init__(self, gate: Gate, begin: Begin) -> None:
        self.part = ""
        """The part of a request that is coming in: "head", "body", or ""."""
        self.ended = False
        """Whether nothing more is read."""
        self.requests = 0
        """How many have begun."""
        self.current: Exchange | None = None
        """The one that comes in, or came last, once its head is here."""
        self.head_bytes = 0
        """How many bytes of its head and its trailers came."""
        self._gate, self._begin = gate, begin
        self._parser = httptools.HttpRequestParser(self)
        self._head_again = False
        self._status = 400
        self._url, self._headers = b"", cast("Headers", [])
        self._fields = self._framing_bytes = 0

    def feed(self, data: bytes) -> int:
        """Read data, and return how many bytes were read.

        The caller feeds the rest again. Raises: BadRequest.
        """
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
        # A field or a chunk's extension that never ends reaches no callback below.
        if self.part:
            gate = self._gate
            if self._framing_bytes > gate.max_header_bytes + FIELD_FRAMING_BYTES * gate.max_header_count:
                self.ended = True
                raise BadRequest(431 if self.part == "head" else 400)
        return len(data)

    def _ignore_upgrade(self) -> None:
        """Read on as if no upgrade had been asked for (RFC 9110, 7.8).

        The parser takes such a request for ended with its head. Another one is told how its body is framed.
        The fields that tell it do not count.
        """
        framing = [field for field in self._headers if field[0] in (b"content-length", b"transfer-encoding")]
        lines = [b"%b: %b\r\n" % field for field in framing]
        self._parser = httptools.HttpRequestParser(self)
        self._head_again, self._fields = True, 0
        self._parser.feed_data(b"POST / HTTP/1.1\r\nhost: x\r\n%b\r\n" % b"".join(lines))

    # httptools calls these. An error in one stops it, and `feed` raises.

    def on_message_begin(self) -> None:
        """A request begins."""
        if self.ended:
            raise BadRequest(400)
        if not self._head_again:
            self.part, self.current = "head", None
            self.requests += 1
            self._url, self._headers = b"", []
            self.head_bytes = self._fields = self._framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request target came."""
        self._url += url
        self.head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came, or a trailer.

        A trailer counts towards the limits and is dropped: it must not be taken for a header.
        """
        self.head_bytes += len(name) + len(value)
        self._fields += 1
        if self._fields > self._gate.max_header_count:
            self._status = 431
            raise BadRequest(431)
        if self.part == "head":
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._head_again:
            self._head_again = False
            return
        if self.head_bytes > self._gate.max_header_bytes:
            self._status = 431
            raise BadRequest(431)
        version, method = self._parser.get_http_version(), self._parser.get_method()
        names = [name for name, _ in self._headers]
        hosts = names.count(b"host")
        codings = self._values(b"transfer-encoding") if b"transfer-encoding" in names else []
        expectations = self._values(b"expect") if b"expect" in names and version == "1.1" else []
        # RFC 9112, 3.2 and 6.1.
        if version not in ("1.0", "1.1") or method == b"CONNECT" or hosts > 1 or hosts < (version == "1.1"):
            raise BadRequest(400)
        if codings and (version == "1.0" or codings != [b"chunked"]):
            raise BadRequest(400)
        url = httptools.parse_url(self._url)
        path = url.path or b"/"
        text = path.decode("ascii")
        head = {
            "http_version": version,
            "method": method.decode("ascii"),
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": url.query or b"",
            "headers": self._headers,
        }
        self.part, self._framing_bytes = "body", 0
        keep_alive = version == "1.1" and self._parser.should_keep_alive()
        self.current = self._begin(head, keep_alive, expectations[-1:] == [b"100-continue"])

    def _values(self, name: bytes) -> list[bytes]:
        return [value.lower() for key, value in self._headers if key == name]

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        self._framing_bytes = max(0, self._framing_bytes - len(body) * (1 + CHUNK_FRAMING_BYTES))
        if self.current is not None:
            self.current.add(body)

    def on_message_complete(self) -> None:
        """The request has ended; or only its head has, if it asks for an upgrade."""
        if self.current is not None and not self._parser.should_upgrade():
            self.part = ""
            self.current.complete()
            self.ended = not self.current.keep_alive
