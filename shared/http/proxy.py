"""Connects through an egress proxy, by `CONNECT`, for https and http targets (RFC 9110, 9.3.6).

The dialler checks the address before a `CONNECT` names it.
"""

import asyncio
import re
import socket
from base64 import b64encode
from hashlib import sha256
from typing import Self
from urllib.parse import unquote_to_bytes

import msgspec

from shared.errors import EgressError
from shared.http.addresses import Address
from shared.http.authority import join_authority, read_port, refuse_unsafe, split_authority
from shared.secrets import Secret

_URL = re.compile(r"(?i:http)://(?:([^/?#@]*)@)?([^/?#@]*)/?")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_HEAD = re.compile(rb".*?\n\r?\n", re.DOTALL)
_MAX_HEAD_BYTES = 16384


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy. Build it with `parse`.

    `resolves`: a `CONNECT` names the target's host, not its checked address. `digest` tells two proxies
    or two sets of credentials apart, and shows neither.
    """

    lookup_name: str
    address: Address | None
    port: int
    authorization: Secret | None
    resolves: bool
    digest: str

    @classmethod
    def parse(cls, url: Secret, *, resolves: bool = False) -> Self:
        """Return the proxy of `http://[user:password@]host:port`.

        Raises: ValueError with one line that repeats nothing of the URL.
        """
        try:
            text = url.reveal().decode()
        except UnicodeDecodeError:
            raise ValueError("the URL is not UTF-8") from None
        refuse_unsafe(text)
        match = _URL.fullmatch(text)
        if match is None:
            raise ValueError("the URL must be http://host:port or http://user:password@host:port")
        name, address, port = split_authority(match[2])
        authorization = None
        if match[1] is not None:
            if ":" not in match[1]:
                raise ValueError(
                    "the URL names a user without a password: write http://user:password@host:port"
                )
            user, _, password = match[1].partition(":")
            pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
            authorization = Secret(b"Basic " + b64encode(pair))
        digest = sha256(b"%d " % resolves + url.reveal()).hexdigest()
        return cls(name, address, read_port(port, None), authorization, resolves, digest)

    @property
    def shown(self) -> str:
        """Return its URL without credentials."""
        return f"http://{join_authority(self.lookup_name, self.port)}"

    def __repr__(self) -> str:
        """Leave out the credentials."""
        return f"<Proxy {self.shown}>"


async def connect_through(proxy: Proxy, sock: socket.socket, host: str, port: int) -> None:
    """Ask the proxy at the other end of `sock` to connect it to `host`.

    Raises:
        EgressError: `proxy`.
    """
    target = join_authority(host, port).encode("ascii")
    request = b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (target, target)
    if proxy.authorization is not None:
        request += b"proxy-authorization: %b\r\n" % proxy.authorization.reveal()
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, request + b"\r\n")
        answer = b""
        while (head := _HEAD.match(answer)) is None:
            received = await loop.sock_recv(sock, 4096)
            if not received or len(answer) + len(received) > _MAX_HEAD_BYTES:
                raise EgressError("proxy", "the proxy did not answer CONNECT by HTTP")
            answer += received
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EgressError("proxy", f"the connection to the proxy broke: {reason}") from None
    status = _STATUS.match(answer)
    if status is None:
        raise EgressError("proxy", "the proxy did not answer CONNECT by HTTP")
    if not status[1].startswith(b"2"):
        raise EgressError("proxy", f"the proxy answered {status[1].decode()} to CONNECT {target.decode()}")
    if head.end() != len(answer):
        # In TLS and in HTTP the client speaks first, so bytes after the head are not from the target.
        raise EgressError("proxy", "the proxy sent more than its answer to CONNECT")
