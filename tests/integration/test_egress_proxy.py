"""The delivery client through a CONNECT proxy: the same checks, deadlines and verification as without."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme

from shared.http import Answer, Endpoint
from shared.http.proxy import Proxy
from shared.secrets import Secret

from .connect_proxy import CONNECTED, connect_proxy
from .raw_targets import OK, SOON_S, Target, answering, at, client, deaf, gone, post, refused, run_on, target

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
CA = trustme.CA()


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's coroutine on each loop, and see that it leaves nothing open."""
    return lambda main: run_on(request.param, main)


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def serving(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(name).configure_cert(context)
    return context


async def loopback(name: str, port: int) -> list[str]:
    return ["127.0.0.1"]


async def nowhere(name: str, port: int) -> list[str]:
    raise AssertionError("nothing is looked up here")


def proxy_at(port: int, credentials: str = "", host: str = "127.0.0.1") -> Proxy:
    return Proxy.parse(Secret(f"http://{credentials}{host}:{port}"))


# -- the way there


def test_an_http_target_is_reached_by_connect_over_a_kept_connection(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, connect_proxy() as proxy, client() as egress:
            endpoint = at(here.port, proxy=proxy.way())
            for _ in range(3):
                assert await post(egress, endpoint) == Answer(200, None, b"ok", False)
            where = f"127.0.0.1:{here.port}"
            assert proxy.heads == [f"CONNECT {where} HTTP/1.1\r\nhost: {where}\r\n\r\n"]
            assert here.requests[0].startswith(b"POST /hooks HTTP/1.1\r\nhost: %b\r\n" % where.encode())
            assert b"proxy-" not in here.requests[0]

    run(main)


def test_a_name_is_resolved_here_and_the_checked_address_is_asked_for_while_tls_names_the_target(
    run: Run, ca_file: str
) -> None:
    asked: list[str | None] = []

    async def main() -> None:
        tls = serving("a.test")
        tls.sni_callback = lambda _, name, __: asked.append(name)
        async with (
            target(answering(OK), tls=tls) as here,
            connect_proxy() as proxy,
            client(resolver=loopback) as egress,
        ):
            endpoint = at(here.port, host="a.test", scheme="https", ca_file=ca_file, proxy=proxy.way())
            for size in (2, 3_000_000):
                assert (await post(egress, endpoint, bytes(size))).status == 200
            assert proxy.asked_for == [f"127.0.0.1:{here.port}"]
            assert b"host: a.test:%d\r\n" % here.port in here.requests[0]
        assert asked == ["a.test"]

    run(main)


def test_a_proxy_that_resolves_is_given_the_name_and_nothing_is_looked_up_here(
    run: Run, ca_file: str
) -> None:
    async def main() -> None:
        async with (
            target(answering(OK), tls=serving("a.test")) as here,
            connect_proxy() as proxy,
            client(resolver=nowhere) as egress,
        ):
            way = proxy.way(resolves=True)
            endpoint = at(here.port, host="a.test", scheme="https", ca_file=ca_file, proxy=way)
            assert (await post(egress, endpoint)).status == 200
            assert proxy.asked_for == [f"a.test:{here.port}"]

    run(main)


def test_the_certificate_is_the_targets_not_the_proxys(run: Run, ca_file: str) -> None:
    async def main() -> None:
        async with (
            target(answering(OK), tls=serving("b.test")) as here,
            connect_proxy() as proxy,
            client(resolver=loopback) as egress,
        ):
            endpoint = at(here.port, host="a.test", scheme="https", ca_file=ca_file, proxy=proxy.way())
            error = await refused(post(egress, endpoint))
            assert (error.kind, here.requests) == ("tls", [])

    run(main)


def test_credentials_go_to_the_proxy_and_to_nobody_else(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, connect_proxy() as proxy, client() as egress:
            assert (await post(egress, at(here.port, proxy=proxy.way("us%C3%A9r:p%40ss@")))).status == 200
            basic = b64encode("usér:p@ss".encode()).decode()
            assert f"\r\nproxy-authorization: Basic {basic}\r\n" in proxy.heads[0]
            assert b"authorization" not in here.requests[0]

    run(main)


def test_another_proxy_or_none_shares_no_connection(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, connect_proxy() as proxy, client() as egress:
            for way in (
                None,
                proxy.way(),
                proxy.way("u:one@"),
                proxy.way("u:two@"),
                proxy.way(resolves=True),
            ):
                await post(egress, at(here.port, proxy=way))
            assert here.connections == 5

    run(main)


def test_an_address_behind_the_proxy_that_fails_gives_way_to_the_next(run: Run) -> None:
    async def both(name: str, port: int) -> list[str]:
        return ["127.0.0.2", "::1", "127.0.0.1"]

    async def main() -> None:
        async with target(answering(OK)) as here, connect_proxy() as proxy, client(resolver=both) as egress:
            endpoint = at(here.port, host="a.test", proxy=proxy.way())
            assert (await post(egress, endpoint)).status == 200
            assert f"[::1]:{here.port}" in proxy.asked_for

    run(main)


def test_a_proxys_own_name_is_looked_up(run: Run) -> None:
    async def main() -> None:
        async with (
            target(answering(OK)) as here,
            connect_proxy() as proxy,
            client(resolver=loopback) as egress,
        ):
            assert (await post(egress, at(here.port, proxy=proxy.way(host="proxy.test")))).status == 200

    run(main)


# -- the guard


@pytest.mark.case(n=20)
@pytest.mark.parametrize("url", ["http://127.0.0.1:80/", "http://169.254.169.254/", "http://a.test/"])
@pytest.mark.parametrize("resolves", [False, True])
def test_a_proxy_is_never_asked_for_a_forbidden_address(run: Run, url: str, resolves: bool) -> None:
    """FAULTS 20, 21: the guard holds through a proxy too."""

    async def main() -> None:
        async with connect_proxy() as proxy, client(resolver=loopback) as egress:
            # A proxy that resolves names has the say over what they stand for; literals stay ours.
            name = "localhost" if resolves else "a.test"
            endpoint = Endpoint.parse(url.replace("a.test", name), proxy=proxy.way(resolves=resolves))
            assert (await refused(post(egress, endpoint))).kind == "address-refused"
            assert proxy.here.connections == 0

    run(main)


def test_a_proxy_may_be_private_but_never_link_local(run: Run) -> None:
    async def metadata(name: str, port: int) -> list[str]:
        return ["169.254.169.254"]

    async def main() -> None:
        async with client(resolver=metadata) as egress:
            for host in ("169.254.169.254", "proxy.test"):
                endpoint = Endpoint.parse("http://93.184.215.14/", proxy=proxy_at(80, host=host))
                error = await refused(post(egress, endpoint))
                assert (error.kind, "link-local" in error.detail) == ("proxy", True)

    run(main)


# -- what goes wrong


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n", "407"),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nsecret", "403"),
        (b"HTTP/1.0 502 x\r\n\r\n", "502"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n\r\n", "302"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "did not answer"),
        (b"HTTP/1.1 200 OK\r\nx: y", "did not answer"),
        (b"", "did not answer"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20000, "did not answer"),
        (CONNECTED + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "more than its answer"),
    ],
)
def test_a_proxy_that_makes_no_tunnel_is_a_proxy_error(run: Run, answer: bytes, says: str) -> None:
    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async def main() -> None:
        async with target(handler) as proxy, target(answering(OK)) as here, client() as egress:
            endpoint = at(here.port, proxy=proxy_at(proxy.port, "user:s3cret@"))
            error = await refused(post(egress, endpoint))
            assert (error.kind, says in error.detail, "secret" in str(error)) == ("proxy", True, False)
            assert "s3cret" not in f"{error} {endpoint!r} {endpoint.proxy!r}"
            assert here.connections == 0, "never past the proxy"

    run(main)


def test_a_proxy_that_is_away_is_a_proxy_error(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client() as egress:
            async with connect_proxy() as proxy:
                way = proxy.way()
            error = await refused(post(egress, at(here.port, proxy=way)))
            assert (error.kind, "refused" in error.detail, here.connections) == ("proxy", True, 0)

    run(main)


def test_the_deadline_spans_the_proxy(run: Run, ca_file: str) -> None:
    async def drips(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in CONNECTED[:-1]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)

    async def never_reads(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone(reader)

    async def main() -> None:
        async with client() as egress:
            for handler in (drips, never_reads):
                async with target(handler) as proxy:
                    endpoint = at(9, scheme="https", proxy=proxy_at(proxy.port))
                    error = await refused(post(egress, endpoint, timeout_s=SOON_S))
                    assert (error.kind, "proxy" in error.detail) == ("timeout", True)
                    await proxy.until_closed()
            with deaf("127.0.0.1") as port:
                error = await refused(post(egress, at(9, proxy=proxy_at(port)), timeout_s=SOON_S))
                assert (error.kind, "proxy" in error.detail) == ("timeout", True)
            async with target(never_reads) as here, connect_proxy() as tunnel:
                endpoint = at(here.port, scheme="https", ca_file=ca_file, proxy=tunnel.way())
                error = await refused(post(egress, endpoint, timeout_s=SOON_S))
                assert (error.kind, "TLS handshake" in error.detail) == ("timeout", True)

    run(main)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13])
def test_a_post_cancelled_on_its_way_through_the_proxy_leaves_nothing(
    run: Run, ca_file: str, steps: int
) -> None:
    async def main() -> None:
        async with (
            target(answering(OK), tls=serving("127.0.0.1")) as here,
            connect_proxy() as proxy,
            client() as egress,
        ):
            endpoint = at(here.port, scheme="https", ca_file=ca_file, proxy=proxy.way())
            posts = [asyncio.ensure_future(post(egress, endpoint)) for _ in range(3)]
            for _ in range(steps):
                await asyncio.sleep(0.001)
            for each in posts:
                each.cancel()
            await asyncio.gather(*posts, return_exceptions=True)
            assert (await post(egress, endpoint)).status == 200

    run(main)


# -- how a proxy is written


@pytest.mark.parametrize(
    "url",
    [
        "https://proxy:3128",
        "socks5://proxy:1080",
        "proxy:3128",
        "http://proxy",
        "http://proxy:0",
        "http://proxy:3128/path",
        "http://proxy:3128?x",
        "http://user-s3cret@proxy:3128",
        "http://u:s3cret@p:w@proxy:3128",
        "http://:3128",
        "http://u:s3cret@0x7f.1:3128",
        "http://proxy:3128\r\nx: y",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        Proxy.parse(Secret(url))
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
