"""The host and port of a URL, read strictly: forms that two readers may take for two hosts are refused.

No message of this module repeats what it read: that may hold a secret.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from shared.http.addresses import Address

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")  # underscores: names of containers have them
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def refuse_unsafe(url: str) -> None:
    """Refuse a URL with characters that readers treat differently. Raises: ValueError."""
    if _UNSAFE.search(url):
        raise ValueError("the URL holds a space, a control character or a backslash")


def split_authority(authority: str) -> tuple[str, Address | None, str | None]:
    """Return the host as it is looked up, its address if it is an address, and the text of the port.

    Raises: ValueError.
    """
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
    # 0x7f.1, 2130706433. Only the form that all readers agree on is accepted.
    try:
        address = IPv4Address(name)
    except AddressValueError:
        raise ValueError("the URL's host is a number; an IPv4 address has four decimal parts") from None
    return name, address, port if colon else None


def reachable(host: str) -> str:
    """Return the address by which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def join_authority(host: str, port: int) -> str:
    """Return `host:port`; an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_port(text: str | None, default: int | None) -> int:
    """Return a port from its text. Raises: ValueError; also if both text and default are None."""
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError("the URL's port must be a number from 1 to 65535")
    return int(text)


def _host_name(host: str) -> str:
    if not host:
        raise ValueError("the URL has no host")
    if not host.isascii():
        try:
            # UTS 46 also folds full-width digits and dots, so the check for numbers comes after it.
            host = idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError:
            raise ValueError("the URL's host is no valid international name") from None
    host = host.lower()
    bare = host.removesuffix(".")
    if len(bare) > 253 or not all(_LABEL.fullmatch(label) for label in bare.split(".")):
        raise ValueError("the URL's host is no valid name")
    return host
