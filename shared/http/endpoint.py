"""A target's endpoint: its URL, parsed strictly and once, and the requests that go there.

No message of this module repeats the URL: its path, query or userinfo may hold a secret.
"""

import functools
import re
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Self
from urllib.parse import quote

import msgspec

from shared.http.addresses import Address, Network
from shared.http.authority import join_authority, read_port, refuse_unsafe, split_authority
from shared.http.proxy import Proxy

_LOOPBACK = IPv4Address("127.0.0.1")
_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(#.*)?")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_TARGET_SAFE = "/?:@!$&'()*+,;=-._~%[]"

# The client sets framing and connection headers: a second value in a target's headers is request smuggling.
_OWN_HEADERS = frozenset(
    (
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


class Endpoint(msgspec.Struct, frozen=True):
    """A target's URL, and which addresses its connections may reach. Build it with `parse`.

    `host` is used in SNI, the certificate check and the Host header. `lookup_name` is the name that is
    resolved (it keeps a trailing dot); for an address literal, `address` is set instead. `proxy` is None if
    there is none. Endpoints with equal `pool_key` share connections.
    """

    scheme: str
    host: str
    port: int
    request_target: bytes
    allow_private: tuple[Network, ...]
    ca_file: str | None
    client_cert: str | None
    proxy: Proxy | None
    lookup_name: str
    address: Address | None
    request_head: bytes
    pool_key: str

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        allow_private: tuple[Network, ...] = (),
        ca_file: str | None = None,
        client_cert: str | None = None,
        proxy: Proxy | None = None,
    ) -> Self:
        """Return the endpoint of an http or https URL.

        `allow_private` holds the networks whose private addresses may be dialled.
        `ca_file` (PEM) is trusted beside the system's store; `client_cert` is a PEM file with a
        certificate and its key. Neither is read here.

        Raises: ValueError with one line that says what is wrong, and repeats nothing of the URL.
        """
        refuse_unsafe(url)
        match = _URL.fullmatch(url)
        if match is None or match[1].lower() not in _PORTS:
            raise ValueError("the URL must begin with http:// or https://")
        if match[4] is not None:
            raise ValueError("the URL has a fragment (#…), which is never sent")
        if "@" in match[2]:
            raise ValueError("the URL has a user name or password; sign deliveries with `secret` instead")
        scheme = match[1].lower()
        lookup_name, address, port_text = split_authority(match[2])
        port = read_port(port_text, _PORTS[scheme])
        host = lookup_name.removesuffix(".")
        rest = match[3] if match[3].startswith("/") else "/" + match[3]
        request_target = quote(rest, safe=_REQUEST_TARGET_SAFE).encode("ascii")
        authority = join_authority(host, port)
        if port == _PORTS[scheme]:
            authority = authority.removesuffix(f":{port}")
        return cls(
            scheme=scheme,
            host=host,
            port=port,
            request_target=request_target,
            allow_private=allow_private,
            ca_file=ca_file,
            client_cert=client_cert,
            proxy=proxy,
            lookup_name=lookup_name,
            address=address,
            request_head=b"POST %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n"
            % (request_target, authority.encode("ascii")),
            # A str caches its hash; a tuple would be hashed for every request.
            pool_key=repr(
                (scheme, lookup_name, port, ca_file, client_cert, allow_private, proxy and proxy.digest)
            ),
        )

    @property
    def known_address(self) -> Address | None:
        """The address, if the URL holds one. Names are not looked up."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return _LOOPBACK
        return self.address

    @property
    def origin(self) -> str:
        """Scheme, host and port: the part that a log or an error may show."""
        return f"{self.scheme}://{join_authority(self.host, self.port)}"

    def __repr__(self) -> str:
        """Leave out path and query: they may hold a secret."""
        return f"<Endpoint {self.origin}>"

    def request(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, lines: bytes = b"") -> bytes:
        """Return a whole POST request, head and body, for one write.

        `lines` are more headers, as `header_lines` returns them. Raises: ValueError, as `header_lines` does.
        """
        return b"%bcontent-length: %d\r\n%b%b\r\n%b" % (
            self.request_head,
            len(body),
            header_lines(headers),
            lines,
            body,
        )


def header_lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they are sent.

    Raises: ValueError if a name is not a token or is one that the client sets itself, or a value holds CR, LF
    or NUL. The message repeats no value.
    """
    lines = b"".join([header_name(name) + value + b"\r\n" for name, value in headers])
    # Counting over all fields at once is three scans in C, however many there are.
    count = len(headers)
    if lines.count(b"\n") != count or lines.count(b"\r") != count or b"\0" in lines:
        raise ValueError("a header's value holds CR, LF or NUL")
    return lines


@functools.lru_cache(maxsize=256)
def header_name(name: bytes) -> bytes:
    """Return the beginning of a header's line.

    Raises: ValueError if the name is not a token, or is one that the client sets itself.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError("a header's name is no token")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"the header {name.decode('ascii')} is set by the client itself")
    return name + b": "
