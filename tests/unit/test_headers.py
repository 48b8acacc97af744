"""A target's own headers and credentials: what is sent, what is refused and where, and that none is shown."""

from base64 import b64decode

import pytest

from shared.delivery.headers import own_headers
from shared.errors import ConfigError
from shared.http import Endpoint
from shared.secrets import Secret
from shared.settings import Auth


def test_headers_and_credentials_are_sent_as_they_are_written() -> None:
    headers = {"X-Team": Secret("payments"), "x-note": Secret("two words\tand a tab")}
    own = own_headers(headers, Auth(bearer=Secret("t0ken.~+/=")))
    assert own == [
        (b"authorization", b"Bearer t0ken.~+/="),
        (b"x-team", b"payments"),
        (b"x-note", b"two words\tand a tab"),
    ]
    assert b"\r\nx-team: payments\r\n" in Endpoint.parse("http://a.example/").request(own, b"")


def test_basic_credentials_are_utf_8() -> None:
    [(name, value)] = own_headers({}, Auth(username=Secret("usér"), password=Secret("p:äss")))
    assert (name, b64decode(value.removeprefix(b"Basic ")).decode()) == (b"authorization", "usér:p:äss")


def test_another_scheme_of_authorization_is_a_header() -> None:
    own = own_headers({"Authorization": Secret("ApiKey x")}, None)
    assert own == [(b"authorization", b"ApiKey x")]


@pytest.mark.case(n=34)
@pytest.mark.parametrize(
    "value", ["a\rb", "a\nb", "a\r\nx: y", "a\0b", "a\x7fb", " a", "a ", "\t", "é", "a\r\n"]
)
def test_34_a_value_that_could_begin_a_line_or_be_read_in_two_ways_is_refused(value: str) -> None:
    """FAULTS 34: CR, LF or NUL in a configured header."""
    with pytest.raises(ConfigError) as caught:
        own_headers({"x-team": Secret(value)}, None)
    assert caught.value.path == "headers.x-team"
    assert "\n" not in str(caught.value)


@pytest.mark.case(n=34)
@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä", "a\0", " a", "a\n"])
def test_34_a_name_that_is_no_token_is_refused_in_one_line(name: str) -> None:
    """FAULTS 34: CR, LF or NUL in a configured header's name."""
    with pytest.raises(ConfigError, match="no token") as caught:
        own_headers({name: Secret("x")}, None)
    assert caught.value.path.startswith("headers.'")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "Content-Length", "transfer-encoding", "Connection", "TE", "expect", "upgrade"),
        *("content-type", "Content-Encoding", "User-Agent", "Proxy-Authorization"),
        *("webhook-id", "Webhook-Signature", "webhook-anything", "ce-type", "CE-X"),
    ],
)
def test_our_own_headers_and_framing_cannot_be_overridden(name: str) -> None:
    with pytest.raises(ConfigError, match="itself") as caught:
        own_headers({name: Secret("x")}, None)
    assert caught.value.path == f"headers.{name}"


def test_a_header_stands_once() -> None:
    with pytest.raises(ConfigError, match=r"headers\.X-A: stands there twice"):
        own_headers({"x-a": Secret("1"), "X-A": Secret("2")}, None)
    with pytest.raises(ConfigError, match="set by `auth`"):
        own_headers({"Authorization": Secret("x")}, Auth(bearer=Secret("x")))


@pytest.mark.parametrize(
    ("auth", "path"),
    [
        (Auth(), "auth"),
        (Auth(username=Secret("u")), "auth"),
        (Auth(password=Secret("p")), "auth"),
        (Auth(bearer=Secret("s3cret"), username=Secret("u"), password=Secret("p")), "auth"),
        (Auth(bearer=Secret("s3cret two")), "auth.bearer"),
        (Auth(bearer=Secret("s3cret\r\nx: y")), "auth.bearer"),
        (Auth(username=Secret("u:s3cret"), password=Secret("p")), "auth.username"),
        (Auth(username=Secret("u"), password=Secret("s3cret\n")), "auth.password"),
    ],
)
def test_credentials_that_cannot_be_sent_are_named_and_not_repeated(auth: Auth, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        own_headers({}, auth)
    assert caught.value.path == path
    assert "s3cret" not in f"{caught.value} {auth!r}"
