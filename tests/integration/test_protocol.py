"""The limits of ingress's HTTP protocol, on a real socket: time and size before a request is complete."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from ingress import protocol
from ingress.limits import BodyTooLarge, read_body
from ingress.protocol import LimitedProtocol
from ingress.webhooks import respond
from tests.waiting import wait_for


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        body = await read_body(scope, receive, 1000)
    except BodyTooLarge:
        await respond(send, (413, b"{}", ()))
    else:
        await respond(send, (200, b"%d" % len(body), ()))


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "HEADERS_S", 0.4)
    monkeypatch.setattr(protocol, "BODY_S", 0.4)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http=LimitedProtocol, loop="uvloop", lifespan="off", log_config=None)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_for(lambda: server.started, "the server to start")
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def talk(port: int, *pieces: bytes, pause_s: float = 0.1) -> bytes:
    """Send pieces with pauses until the server closes, and return all it said."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            for number, piece in enumerate(pieces):
                time.sleep(pause_s if number else 0)
                connection.sendall(piece)
            while data := connection.recv(65536):
                said += data
        except (ConnectionResetError, BrokenPipeError):
            pass
    return said


HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"
CLOSE = b"connection: close\r\n"


def test_a_request_in_pieces_within_its_time_is_answered(port: int) -> None:
    assert talk(port, HEAD, CLOSE + b"content-length: 4\r\n\r\n", b"ab", b"cd").endswith(b"\r\n\r\n4")


def test_requests_on_one_connection_have_each_their_own_limits(port: int) -> None:
    # Together they are over the header limit, and over the time of one: neither is by itself.
    request = HEAD + b"x-fill: " + b"x" * 12_000 + b"\r\ncontent-length: 2\r\n\r\nab"
    said = talk(port, request, request, request, HEAD + CLOSE + b"content-length: 0\r\n\r\n", pause_s=0.3)
    assert said.count(b"HTTP/1.1 200") == 4


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    two = HEAD + b"content-length: 2\r\n\r\nab" + HEAD + CLOSE + b"content-length: 3\r\n\r\nabc"
    said = talk(port, two)
    assert said.count(b"HTTP/1.1 200") == 2
    assert said.endswith(b"3")


@pytest.mark.case(n=28)
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b""], id="nothing at all"),
        pytest.param([HEAD] + [b"x-%d: y\r\n" % i for i in range(100)], id="dripped headers"),
        pytest.param([HEAD + b"content-length: 900\r\n\r\n"] + [b"x"] * 900, id="dripped body"),
        pytest.param(
            [HEAD + b"transfer-encoding: chunked\r\n\r\n"] + [b"1\r\nx\r\n"] * 900, id="dripped chunks"
        ),
        pytest.param([HEAD + b"content-length: 9\r\n\r\nabc"], id="a body that stops"),
        pytest.param([HEAD[:10]], id="half a request line"),
    ],
)
def test_what_takes_too_long_is_closed_unanswered(port: int, pieces: list[bytes]) -> None:
    assert talk(port, *pieces, pause_s=0.05) == b""


@pytest.mark.case(n=30)
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([HEAD + b"x: " + b"y" * 17_000 + b"\r\n\r\n"], id="one large header"),
        pytest.param([HEAD + b"x: "] + [b"y" * 6_000] * 3, id="one header that does not end"),
        pytest.param([HEAD + b"".join(b"x-%d: y\r\n" % i for i in range(101)) + b"\r\n"], id="too many"),
        pytest.param([b"POST /" + b"p" * 17_000 + b" HTTP/1.1\r\n\r\n"], id="a long request line"),
        pytest.param([b"POST /"] + [b"p" * 6_000] * 3, id="a request line that does not end"),
    ],
)
def test_headers_beyond_the_limit_are_431(port: int, pieces: list[bytes]) -> None:
    assert talk(port, *pieces, pause_s=0.02).startswith(b"HTTP/1.1 431 ")


@pytest.mark.case(n=30)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(
            HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="CL and TE"
        ),
        pytest.param(HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc", id="two lengths"),
        pytest.param(HEAD + b"content-length: -1\r\n\r\n", id="negative length"),
        pytest.param(HEAD + b"bad header\r\n\r\n", id="no colon"),
    ],
)
def test_broken_http_is_400_and_the_connection_ends(port: int, data: bytes) -> None:
    assert talk(port, data).startswith(b"HTTP/1.1 400 ")


@pytest.mark.case(n=29)
def test_a_body_over_the_limit_is_read_out_so_that_its_sender_sees_the_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(HEAD + b"content-length: 300000\r\n\r\n" + b"x" * 300_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        connection.sendall(HEAD + b"content-length: 0\r\n\r\n")
        assert b"HTTP/1.1 200 " in connection.recv(65536), "and the connection goes on"
