"""Who sent a request, and how much of a body is held."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from ingress.limits import AddressList, BodyTooLarge, Disconnected, client_address, read_body

PROXIES = AddressList(["10.0.0.0/8", "::1", "192.0.2.1"])


def address(client: str | None, *forwarded: str, trusted: AddressList = PROXIES) -> str | None:
    scope = {
        "client": (client, 1) if client else None,
        "headers": [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded],
    }
    found = client_address(scope, trusted)
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


def messages(*chunks: bytes, ends: bool = True) -> list[Message]:
    found: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        found[-1]["more_body"] = False
    return [*found, {"type": "http.disconnect"}]


def read(chunks: list[Message], headers: list[tuple[bytes, bytes]] | None = None, limit: int = 10) -> Any:
    left = iter(chunks)

    async def receive() -> Message:
        return next(left)

    return asyncio.run(read_body({"headers": headers or []}, receive, limit))


@pytest.mark.parametrize("chunks", [[b""], [b"0123456789"], [b"01234", b"56789"], [b"", b"0", b"", b"1"]])
def test_a_body_within_the_limit_is_joined(chunks: list[bytes]) -> None:
    assert read(messages(*chunks)) == b"".join(chunks)


@pytest.mark.parametrize(
    "chunks", [[b"0123456789x"], [b"01234", b"56789", b"x"], [b"x" * 11, b"never asked for"]]
)
def test_a_body_over_the_limit_is_refused_before_the_next_chunk(chunks: list[bytes]) -> None:
    with pytest.raises(BodyTooLarge):
        read(messages(*chunks, ends=len(chunks) == 1))


def test_an_announced_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge):
        read([], [(b"content-length", b"11")])


@pytest.mark.parametrize("chunks", [[], [b"half"]])
def test_a_sender_that_leaves_is_nobody_to_answer(chunks: list[bytes]) -> None:
    with pytest.raises(Disconnected):
        read(messages(*chunks, ends=False) if chunks else [{"type": "http.disconnect"}])
