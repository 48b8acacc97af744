"""Which addresses a delivery may dial. It judges one IP address, and looks nothing up.

The rule is an allow-list: global unicast, and what `allow_private` opens. `ipaddress.is_global` is not used:
for NAT64, IPv4-compatible, IPv4-mapped CGNAT and multicast addresses it is true. Source: the IANA
special-purpose address registries for IPv4 and IPv6.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# No setting opens these. They are checked before `_PRIVATE`, which contains some of the metadata addresses.
_NEVER: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(text), what)
    for text, what in (
        ("0.0.0.0/8", "unspecified"),
        ("169.254.0.0/16", "link-local"),
        ("168.63.129.16/32", "a cloud's metadata service"),  # Azure; it lies in global unicast
        ("100.100.100.200/32", "a cloud's metadata service"),  # Alibaba, within CGNAT
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),  # with the broadcast address
        ("::/128", "unspecified"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("fd00:ec2::/32", "a cloud's metadata service"),  # AWS, within unique local
        ("fd20:ce::254/128", "a cloud's metadata service"),  # Google, within unique local
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

# `allow_private` opens these.
_PRIVATE: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(text), what)
    for text, what in (
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("::1/128", "loopback"),
        ("fc00::/7", "unique local"),
    )
)

_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")


def refusal(address: Address, opened: Sequence[Network] = ()) -> str | None:
    """Return why a delivery may not dial `address`, or None if it may.

    `opened` is a target's `allow_private`: the loopback and private addresses in these networks may be
    dialled. Nothing opens link-local, multicast, reserved or metadata addresses.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return f"{address} names a network interface; scoped addresses are never dialled"
        if address.ipv4_mapped is not None:
            # The kernel dials the IPv4 address, so that is the one to judge.
            why = refusal(address.ipv4_mapped, opened)
            return None if why is None else f"{address} stands for IPv4: {why}"
    for network, what in _NEVER:
        if address in network:
            return f"{address} is {what}; no setting opens it"
    for network, what in _PRIVATE:
        if address in network:
            if any(address in each for each in opened):
                return None
            return f"{address} is {what}; the target's `allow_private` opens it"
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST_V6:
        # IPv4-compatible ::a.b.c.d is refused here, too.
        return f"{address} is not global unicast; no setting opens it"
    return None
