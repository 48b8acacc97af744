"""Who sent a request, and how long it is said to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.clients import AddressList, client_address
from ingress.webhooks import announced_bytes

PROXIES = AddressList(["10.0.0.0/8", "::1", "192.0.2.1"])


def address(client: str | None, *forwarded: str, trusted: AddressList = PROXIES) -> str | None:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    found = client_address(client, headers, trusted)
    return str(found) if found else None


@pytest.mark.parametrize(
    ("client", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # not a proxy of ours: it may say what it likes
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the first entry anyone may have written
        ("10.1.2.3", ["198.51.100.1, 10.9.9.9"], "198.51.100.1"),  # two proxies of ours
        ("10.1.2.3", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),  # repeated headers are one list
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["10.9.9.9"], "10.9.9.9"),
        ("::1", ["2001:db8::7"], "2001:db8::7"),
        ("10.1.2.3", ["198.51.100.1, nonsense"], None),
        ("10.1.2.3", [""], None),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("a unix socket", [], None),
        (None, ["198.51.100.1"], None),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_proxy_of_ours(
    client: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert address(client, *forwarded) == expected


def test_without_trusted_proxies_no_header_is_believed() -> None:
    assert address("127.0.0.1", "198.51.100.1", trusted=AddressList([])) == "127.0.0.1"


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_a_forwarded_header_never_raises(value: str) -> None:
    address("10.1.2.3", value)


@pytest.mark.parametrize(("headers", "length"), [([], None), ([(b"content-length", b"11")], 11)])
def test_a_length_is_what_is_announced(headers: list[tuple[bytes, bytes]], length: int | None) -> None:
    assert announced_bytes(headers) == length
