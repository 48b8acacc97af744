"""What a request may cost before it is verified: body size and sender's address."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import Receive, Scope

from shared.values import Network, parse_network

Headers = list[tuple[bytes, bytes]]
Address = IPv4Address | IPv6Address


class BodyTooLarge(Exception):
    """A request's body is longer than the limit: 413."""


class Disconnected(Exception):
    """The sender left before its request was complete: nobody to answer."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return a request's body, holding at most `limit` bytes and the chunk that breaks it.

    Raises: BodyTooLarge, at once where the length is announced; Disconnected.
    """
    for name, value in scope["headers"]:
        # The parser has checked that it is a number and that nothing contradicts it.
        if name == b"content-length" and int(value) > limit:
            raise BodyTooLarge
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise BodyTooLarge
        return body
    chunks, size = [body], len(body)
    while True:
        if size > limit:
            raise BodyTooLarge
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if not message.get("more_body", False):
            if size > limit:
                raise BodyTooLarge
            return b"".join(chunks)


class AddressList:
    """A list of networks that addresses are held against; an empty list allows every address."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[Network, ...] = tuple(parse_network(network) for network in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address) -> bool:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def client_address(scope: Scope, trusted: AddressList) -> Address | None:
    """Return who sent the request; None where that cannot be told.

    `X-Forwarded-For` is believed only from a trusted proxy, and read from its end: the first address
    that is not a trusted proxy's own is the client. What stands before it anyone may have written.
    """
    if not scope.get("client"):
        return None
    address = _parse(scope["client"][0])
    if not trusted or address is None or address not in trusted:
        return address
    hops = [
        hop.strip()
        for name, value in scope["headers"]
        if name == b"x-forwarded-for"
        for hop in value.decode("latin-1").split(",")
    ]
    for hop in reversed(hops):
        address = _parse(hop)
        if address is None or address not in trusted:
            return address
    return address


def _parse(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
