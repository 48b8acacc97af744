"""The address of the client that sent a request, also behind proxies, and lists of allowed addresses."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from shared.values import Network, parse_network

Headers = list[tuple[bytes, bytes]]
Address = IPv4Address | IPv6Address


class AddressList:
    """A list of networks whose addresses are allowed; an empty list allows every address."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[Network, ...] = tuple(parse_network(network) for network in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address) -> bool:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def client_address(peer: str | None, headers: Headers, trusted: AddressList) -> Address | None:
    """Return the address of the client behind a connection from `peer`; None if it is not known.

    `X-Forwarded-For` is believed only from a trusted proxy, and read from its end: the first address that is
    not a trusted proxy's own is the client. Anyone may have written what stands before it.
    """
    address = parse_address(peer) if peer else None
    if not trusted or address is None or address not in trusted:
        return address
    hops = [
        hop.strip()
        for name, value in headers
        if name == b"x-forwarded-for"
        for hop in value.decode("latin-1").split(",")
    ]
    for hop in reversed(hops):
        address = parse_address(hop)
        if address is None or address not in trusted:
            return address
    return address


def parse_address(text: str) -> Address | None:
    """Return an IP address; None if it is not one."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def client_key(address: Address | None) -> str:
    """Return the key by which a client's connections are counted: its address, or its /64 network in IPv6."""
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or f"{int(address) >> 64:x}/64")
    return str(address)
