"""Where a target lives: one URL, parsed strictly and once, and the requests that go there.

No message in this module repeats the URL: its path, query or userinfo may hold a secret.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Self
from urllib.parse import quote

import idna
import msgspec

from shared.egress.addresses import Address, Network, Opened, parse_opened

_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(#.*)?")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")  # underscores: names of containers have them
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_TARGET_SAFE = "/?:@!$&'()*+,;=-._~%[]"

# Framing and connection handling are the client's: a second opinion in a header is request smuggling.
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
    """Where a target lives, and what its connections may reach. Build it with `parse`.

    `host` is what SNI, the certificate check and the Host header name; `lookup_name` is what is
    resolved (it keeps a trailing dot); `address` is set instead for an address literal.
    Endpoints with equal `pool_key` share connections.
    """

    scheme: str
    host: str
    port: int
    request_target: bytes
    allow_private: Opened
    ca_file: str | None
    client_cert: str | None
    lookup_name: str
    address: Address | None
    request_head: bytes
    pool_key: str

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        allow_private: bool | Iterable[str | Network] = False,
        ca_file: str | None = None,
        client_cert: str | None = None,
    ) -> Self:
        """Return the endpoint of an http or https URL.

        `ca_file` (PEM) replaces the system's trust store; `client_cert` is a PEM file with a
        certificate and its key.

        Raises:
            ValueError: with one line that says what is wrong, and repeats nothing of the URL.
        """
        if _UNSAFE.search(url):
            raise ValueError("the URL holds a space, a control character or a backslash")
        match = _URL.fullmatch(url)
        if match is None or match[1].lower() not in _PORTS:
            raise ValueError("the URL must begin with http:// or https://")
        if match[4] is not None:
            raise ValueError("the URL has a fragment (#…), which is never sent")
        if "@" in match[2]:
            raise ValueError("the URL has a user name or password; sign deliveries with `secret` instead")
        scheme = match[1].lower()
        lookup_name, address, port_text = _split_authority(match[2])
        port = _port(port_text, _PORTS[scheme])
        host = lookup_name.removesuffix(".")
        rest = match[3] if match[3].startswith("/") else "/" + match[3]
        request_target = quote(rest, safe=_REQUEST_TARGET_SAFE).encode("ascii")
        authority = f"[{host}]" if isinstance(address, IPv6Address) else host
        if port != _PORTS[scheme]:
            authority = f"{authority}:{port}"
        opened = parse_opened(allow_private)
        return cls(
            scheme=scheme,
            host=host,
            port=port,
            request_target=request_target,
            allow_private=opened,
            ca_file=ca_file,
            client_cert=client_cert,
            lookup_name=lookup_name,
            address=address,
            request_head=b"POST %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n"
            % (request_target, authority.encode("ascii")),
            # A str caches its hash; a tuple of these would be hashed anew for every request.
            pool_key=repr((scheme, lookup_name, port, ca_file, client_cert, opened)),
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a log or an error may show."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __repr__(self) -> str:
        """Leave out path and query: they may hold a secret."""
        return f"<Endpoint {self.origin}>"

    def request(self, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
        """Return a whole POST request, head and body, for one write.

        Raises:
            ValueError: a name is no token or one that the client sets itself; a value holds CR, LF
                or NUL. The message repeats no value.
        """
        parts = [self.request_head, b"content-length: %d\r\n" % len(body)]
        for name, value in headers:
            parts += (_field(name), value, b"\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        # Five lines are our own. Counting over the whole head is three scans in C, however many fields.
        lines = len(headers) + 5
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise ValueError("a header's value holds CR, LF or NUL")
        return head + body


def _split_authority(authority: str) -> tuple[str, Address | None, str | None]:
    """Return the host as it is looked up, its address if it is one, and the text of the port."""
    if authority.startswith("["):
        text, bracket, port = authority[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError("the URL's host has an unbalanced bracket")
        if "%" in text:
            raise ValueError("the URL's host is an IPv6 address with a scope (%…), which is never dialled")
        try:
            address: Address = IPv6Address(text)
        except AddressValueError:
            raise ValueError("the URL's host is no IPv6 address") from None
        return str(address), address, port[1:] if port else None
    host, colon, port = authority.partition(":")
    if ":" in port:
        raise ValueError("the URL's host has several colons; an IPv6 address stands in brackets")
    name = _host_name(host)
    last = name.removesuffix(".").rpartition(".")[2]
    if not _NUMBER.fullmatch(last):
        return name, None, port if colon else None
    # A host that ends in a number is an address to many resolvers, in many forms: 127.1,
    # 0x7f.1, 2130706433. Only the one form that everybody reads alike is taken.
    try:
        address = IPv4Address(name)
    except AddressValueError:
        raise ValueError("the URL's host is a number; an IPv4 address has four decimal parts") from None
    return name, address, port if colon else None


def _host_name(host: str) -> str:
    if not host:
        raise ValueError("the URL has no host")
    if not host.isascii():
        try:
            # UTS 46 also folds full-width digits and dots, so numbers are looked for afterwards.
            host = idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError:
            raise ValueError("the URL's host is no valid international name") from None
    host = host.lower()
    bare = host.removesuffix(".")
    if len(bare) > 253 or not all(_LABEL.fullmatch(label) for label in bare.split(".")):
        raise ValueError("the URL's host is no valid name")
    return host


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError("the URL's port must be a number from 1 to 65535")
    return int(text)


@functools.lru_cache(maxsize=256)
def _field(name: bytes) -> bytes:
    if not _TOKEN.fullmatch(name):
        raise ValueError("a header's name is no token")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"the header {name.decode('ascii')} is set by the client itself")
    return name + b": "
