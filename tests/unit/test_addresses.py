"""Which addresses a delivery may dial."""

from ipaddress import ip_address, ip_network

import pytest

from shared.http.addresses import refusal
from shared.values import Private

GLOBAL = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]

PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:100.64.0.1",
    "::ffff:10.0.0.1",
]

NEVER = [
    "0.0.0.0",  # noqa: S104  # judged, not bound
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "100.100.100.200",
    "::",
    "::7f00:1",
    "::127.0.0.1",
    "::10.0.0.1",
    "::1.1.1.1",
    "::ffff:169.254.169.254",
    "::ffff:224.0.0.1",
    "::ffff:0.0.0.0",
    "::ffff:0:1.1.1.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::1.1.1.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "fd12::1%eth0",
]

EVERYTHING = tuple(ip_network(text) for text in ("0.0.0.0/0", "::/0"))


@pytest.mark.parametrize("text", GLOBAL)
def test_global_unicast_is_dialled(text: str) -> None:
    assert refusal(ip_address(text)) is None


@pytest.mark.parametrize("text", PRIVATE)
def test_a_private_address_is_refused_with_the_setting_that_opens_it(text: str) -> None:
    why = refusal(ip_address(text))
    assert why is not None
    assert "`allow_private` opens it" in why


@pytest.mark.parametrize("text", PRIVATE)
def test_allow_private_opens_private_addresses(text: str) -> None:
    assert refusal(ip_address(text), Private.parse(True)) is None
    assert refusal(ip_address(text), EVERYTHING) is None


@pytest.mark.case(n=21)
@pytest.mark.parametrize("text", NEVER)
def test_nothing_opens_what_is_neither_global_nor_private(text: str) -> None:
    for opened in (
        (),
        Private.parse(True),
        EVERYTHING,
        (ip_network("fe80::/10"), ip_network("169.254.0.0/16")),
    ):
        why = refusal(ip_address(text), opened)
        assert why is not None
        assert "`allow_private` opens it" not in why


def test_networks_open_only_what_lies_in_them() -> None:
    opened = Private.parse(["10.1.0.0/16", "fd12::/16"])
    assert refusal(ip_address("10.1.2.3"), opened) is None
    assert refusal(ip_address("::ffff:10.1.2.3"), opened) is None
    assert refusal(ip_address("fd12::1"), opened) is None
    assert refusal(ip_address("10.2.0.1"), opened) is not None
    assert refusal(ip_address("127.0.0.1"), opened) is not None
    assert refusal(ip_address("fd13::1"), opened) is not None


def test_allow_private_is_a_flag_or_networks() -> None:
    assert len({Private.parse(value) for value in (True, False)} | {Private.parse(["10.0.0.0/8"])}) == 3
    assert Private.parse([]) == Private.parse(False) == ()
    assert Private.parse(["10.0.0.0/8"]) == (ip_network("10.0.0.0/8"),)
    for wrong in ("10.0.0.0/8", ["10.0.0.1/8"], ["everything"]):
        with pytest.raises(ValueError, match=r"."):
            Private.parse(wrong)
