"""The delivery client against servers of different makes, as they come: aiohttp's and nginx."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from shared.http import Answer

from ..acceptance.gateway import free_port
from ..programs import program
from ..waiting import wait_for
from .connect_proxy import connect_proxy
from .raw_targets import at, client, post, run_on

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
CA = trustme.CA()

NGINX_CONF = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 3;
    client_max_body_size 1m;
    gzip on;
    gzip_min_length 1;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        ssl_client_certificate {folder}/ca.pem;
        ssl_verify_client optional;
        default_type text/plain;
        location /hooks {{ return 200 "taken $ssl_client_verify"; }}
    }}
}}
"""


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's coroutine on each loop, and see that it leaves nothing open."""
    return lambda main: run_on(request.param, main)


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


# -- aiohttp


@contextlib.asynccontextmanager
async def aiohttp_server(
    handler: Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    app = web.Application(client_max_size=1024 * 1024)
    app.router.add_post("/hooks", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def test_an_aiohttp_target_is_served_over_kept_connections(run: Run, ca_file: str) -> None:
    peers: set[Any] = set()

    async def handler(request: web.Request) -> web.Response:
        peers.add(request.transport and request.transport.get_extra_info("peername"))
        return web.Response(status=202, text=f"{len(await request.read())}")

    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CA.issue_cert("127.0.0.1").configure_cert(tls)
        for scheme, context in (("http", None), ("https", tls)):
            peers.clear()
            async with aiohttp_server(handler, context) as port, client() as egress:
                endpoint = at(port, scheme=scheme, ca_file=ca_file)
                for size in (0, 2, 262144):
                    answers = await asyncio.gather(*(post(egress, endpoint, bytes(size)) for _ in range(4)))
                    assert answers == [Answer(202, None, b"%d" % size, False)] * 4
            assert len(peers) == 4

    run(main)


def test_aiohttp_may_stream_refuse_early_and_compress(run: Run) -> None:
    async def streams(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"retry-after": "7"})
        answer.enable_compression(web.ContentCoding.gzip)
        await answer.prepare(request)
        for _ in range(3):
            await answer.write(b"x" * 1000)
        await answer.write_eof()
        return answer

    async def too_large(request: web.Request) -> web.Response:
        await request.read()
        raise AssertionError("more than the limit was read")

    async def main() -> None:
        async with aiohttp_server(streams) as port, client() as egress:
            for _ in range(2):
                answer = await post(egress, at(port))
                # We ask for no coding; a server that compresses all the same is not decoded.
                assert (answer.status, answer.retry_after, answer.body[:2]) == (200, b"7", b"\x1f\x8b")
        async with aiohttp_server(too_large) as port, client() as egress:
            assert (await post(egress, at(port), bytes(4 * 1024 * 1024))).status == 413

    run(main)


def test_aiohttp_is_reached_through_a_proxy(run: Run, ca_file: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.host)

    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CA.issue_cert("127.0.0.1").configure_cert(tls)
        async with aiohttp_server(handler, tls) as port, connect_proxy() as proxy, client() as egress:
            endpoint = at(port, scheme="https", ca_file=ca_file, proxy=proxy.way())
            for _ in range(2):
                assert (await post(egress, endpoint)).body == f"127.0.0.1:{port}".encode()
            assert len(proxy.heads) == 1

    run(main)


# -- nginx


@pytest.fixture
def nginx(tmp_path: Path, ca_file: str) -> Iterator[tuple[int, int]]:
    """A running nginx; its ports, without and with TLS."""
    server = program("nginx", "nginx-light")
    port, tls_port = free_port(), free_port()
    CA.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    conf = tmp_path / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=tmp_path, port=port, tls_port=tls_port))
    process = subprocess.Popen([server, "-p", str(tmp_path), "-c", str(conf), "-e", "stderr"])
    try:
        wait_for(lambda: (tmp_path / "nginx.pid").exists() and process.poll() is None, "nginx")
        yield port, tls_port
    finally:
        process.terminate()
        process.wait(10)


def test_an_nginx_target_is_served_and_its_closing_of_kept_connections_costs_nothing(
    run: Run, nginx: tuple[int, int], ca_file: str
) -> None:
    async def main() -> None:
        async with client() as egress:
            for scheme, port in zip(("http", "https"), nginx, strict=True):
                endpoint = at(port, scheme=scheme, ca_file=ca_file)
                for size in (0, 2, 200_000) * 3:  # it closes every third time
                    answer = await post(egress, endpoint, bytes(size))
                    assert (answer.status, answer.body[:5]) == (200, b"taken")

    run(main)


def test_nginx_refuses_a_body_before_it_was_sent(run: Run, nginx: tuple[int, int]) -> None:
    async def main() -> None:
        async with client() as egress:
            for _ in range(3):
                assert (await post(egress, at(nginx[0]), bytes(8 * 1024 * 1024))).status == 413

    run(main)


def test_nginx_sees_the_client_certificate(
    run: Run, nginx: tuple[int, int], ca_file: str, tmp_path: Path
) -> None:
    own = tmp_path / "own.pem"
    CA.issue_cert("headrace.test").private_key_and_cert_chain_pem.write_to_path(str(own))

    async def main() -> None:
        async with client() as egress:
            for client_cert, verified in ((None, b"taken NONE"), (str(own), b"taken SUCCESS")):
                endpoint = at(nginx[1], scheme="https", ca_file=ca_file, client_cert=client_cert)
                assert (await post(egress, endpoint)).body == verified

    run(main)
