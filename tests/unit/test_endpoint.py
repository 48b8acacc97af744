"""How a target's URL is read, and the request that goes there."""

import re
from ipaddress import ip_address

import pytest

from shared.http import Endpoint
from shared.values import Private


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "host_header"),
    [
        ("https://a.example", "a.example", 443, b"/", b"a.example"),
        ("http://a.example/x/y?z=1&w", "a.example", 80, b"/x/y?z=1&w", b"a.example"),
        ("HTTPS://A.Example:8443/X", "a.example", 8443, b"/X", b"a.example:8443"),
        ("https://a.example:443/", "a.example", 443, b"/", b"a.example"),
        ("http://a.example?q", "a.example", 80, b"/?q", b"a.example"),
        ("http://a.example.:81/", "a.example", 81, b"/", b"a.example:81"),
        ("http://my_service:9000/hooks", "my_service", 9000, b"/hooks", b"my_service:9000"),
        ("http://bücher.example/ä?ö=ü", "xn--bcher-kva.example", 80, b"/%C3%A4?%C3%B6=%C3%BC", None),
        ('http://a.example/%2F|"<', "a.example", 80, b"/%2F%7C%22%3C", b"a.example"),
        ("http://1.1.1.1:81/", "1.1.1.1", 81, b"/", b"1.1.1.1:81"),
        ("http://[2606:4700:0::1]/", "2606:4700::1", 80, b"/", b"[2606:4700::1]"),
        ("https://[::1]:8443/", "::1", 8443, b"/", b"[::1]:8443"),
    ],
)
def test_a_url_is_read(url: str, host: str, port: int, target: bytes, host_header: bytes | None) -> None:
    endpoint = Endpoint.parse(url)
    assert (endpoint.host, endpoint.port, endpoint.request_target) == (host, port, target)
    assert b"\r\nhost: %b\r\n" % (host_header or host.encode()) in endpoint.request_head


@pytest.mark.case(n=21)
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "begin with"),
        ("a.example", "begin with"),
        ("//a.example/", "begin with"),
        ("ftp://a.example/", "begin with"),
        ("file:///etc/passwd", "begin with"),
        ("https:a.example", "begin with"),
        ("http://", "no host"),
        ("http:///x", "no host"),
        ("http://:80/", "no host"),
        ("http://user@a.example/", "user name or password"),
        ("http://user:s3cret@a.example/", "user name or password"),
        ("http://@a.example/", "user name or password"),
        ("http://a.example/#x", "fragment"),
        ("http://a.example#", "fragment"),
        ("http://a.example:0/", "port"),
        ("http://a.example:/", "port"),
        ("http://a.example:65536/", "port"),
        ("http://a.example:+80/", "port"),
        ("http://a.example:٨٠/", "port"),
        ("http://a.example:80:80/", "several colons"),
        ("http://::1/", "several colons"),
        ("http://[::1/", "bracket"),
        ("http://[::1]x/", "bracket"),
        ("http://[::1]:/", "port"),
        ("http://[fe80::1%25eth0]/", "scope"),
        ("http://[fe80::1%eth0]/", "scope"),
        ("http://[1.2.3.4]/", "no IPv6 address"),
        ("http://a.example/\r\nx: y", "control character"),
        ("http://a.example/\x00", "control character"),
        ("http://a.exa\tmple/", "control character"),
        (" http://a.example/", "space"),
        ("http://a.example/a b", "space"),
        ("http://a.example\\@b.example/", "backslash"),
        ("http://a.example/\ud800", "control character"),
        ("http://a..example/", "no valid name"),
        ("http://.example/", "no valid name"),
        ("http://a.example../", "no valid name"),
        ("http://-a.example/", "no valid name"),
        ("http://a%2eexample/", "no valid name"),
        ("http://a,b.example/", "no valid name"),
        (f"http://{'a' * 64}.example/", "no valid name"),
        (f"http://{'a.' * 130}example/", "no valid name"),
        ("http://\u2603\u0301\u202e.example/", "international name"),
        ("http://2130706433/", "four decimal parts"),
        ("http://0177.0.0.1/", "four decimal parts"),
        ("http://0x7f.0.0.1/", "four decimal parts"),
        ("http://0x7f.1/", "four decimal parts"),
        ("http://0x7f000001/", "four decimal parts"),
        ("http://0X7F000001/", "four decimal parts"),
        ("http://0x/", "four decimal parts"),
        ("http://127.1/", "four decimal parts"),
        ("http://127.0.0.01/", "four decimal parts"),
        ("http://127.0.0.1./", "four decimal parts"),
        ("http://256.0.0.1/", "four decimal parts"),
        ("http://1.2.3.4.5/", "four decimal parts"),
        ("http://a.example.1/", "four decimal parts"),
        ("http://１２７.1/", "four decimal parts"),
        ("http://0\uff58７f.1/", "four decimal parts"),
    ],
)
def test_an_odd_url_is_refused_with_one_line(url: str, problem: str) -> None:
    """FAULTS 21: decimal, octal and hex addresses, and what else two readers take for two hosts."""
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        Endpoint.parse(url)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_address_literal_is_never_looked_up() -> None:
    assert Endpoint.parse("http://127.0.0.1/").address == ip_address("127.0.0.1")
    assert Endpoint.parse("http://１２７。０。０。１/").address == ip_address("127.0.0.1")
    assert Endpoint.parse("http://[::1]/").address == ip_address("::1")
    assert Endpoint.parse("http://a.example/").address is None


def test_a_trailing_dot_counts_for_the_look_up_only() -> None:
    endpoint = Endpoint.parse("https://a.example./")
    assert (endpoint.lookup_name, endpoint.host) == ("a.example.", "a.example")


def test_connections_are_shared_by_origin_and_what_they_may_reach() -> None:
    one = Endpoint.parse("http://a.example/x")
    assert one.pool_key == Endpoint.parse("http://A.example:80/y").pool_key
    for other in (
        Endpoint.parse("https://a.example:80/x"),
        Endpoint.parse("http://a.example:81/x"),
        Endpoint.parse("http://a.example/x", allow_private=Private.parse(True)),
        Endpoint.parse("http://a.example/x", allow_private=Private.parse(["10.0.0.0/8"])),
        Endpoint.parse("http://a.example/x", ca_file="ca.pem"),
    ):
        assert one.pool_key != other.pool_key


def test_a_printed_endpoint_shows_no_path() -> None:
    endpoint = Endpoint.parse("https://a.example/hooks/s3cret?key=s3cret")
    assert "s3cret" not in f"{endpoint} {endpoint!r} {endpoint.origin}"


def test_a_request_is_one_piece_with_the_clients_own_framing() -> None:
    endpoint = Endpoint.parse("http://a.example/x")
    request = endpoint.request([(b"content-type", b"application/json"), (b"X-A", b"")], b"{}")
    assert request == (
        b"POST /x HTTP/1.1\r\nhost: a.example\r\naccept-encoding: identity\r\ncontent-length: 2\r\n"
        b"content-type: application/json\r\nX-A: \r\n\r\n{}"
    )


@pytest.mark.case(n=34)
@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\r\nx: y", b"\r\n", b"a\0b", b"a\r\n"])
def test_a_value_that_would_begin_a_new_line_is_refused(value: bytes) -> None:
    """FAULTS 34: CR, LF or NUL in a header."""
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Endpoint.parse("http://a.example/").request([(b"webhook-id", value)], b"")


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\n", b"\xc3\xa4", b"a\0", b" a"])
def test_a_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="no token"):
        Endpoint.parse("http://a.example/").request([(name, b"x")], b"")


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Transfer-Encoding", b"connection", b"expect"])
def test_framing_is_the_clients_own(name: bytes) -> None:
    with pytest.raises(ValueError, match="set by the client itself"):
        Endpoint.parse("http://a.example/").request([(name, b"x")], b"")
