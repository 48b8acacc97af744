"""Ingress's HTTP server on a real socket: its limits of time and size, its order, its end."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytest
import uvloop
from starlette.types import Receive, Scope, Send

import ingress.server.connection
from ingress.server.gate import Gate
from ingress.server.serve import serve
from shared.settings import IngressSettings
from shared.values import Duration
from tests.waiting import wait_for

MAX_BODY = 1000
NOT_FOUND = b'{"error":"not found"}'


class Told:
    """An application that answers how long a webhook's body was, or its path; the path says how."""

    def __init__(self) -> None:
        self.lost_ones = 0
        self.at_work = 0
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.headers.append(scope["headers"])
        self.at_work += 1
        try:
            await self.answer(scope, receive, send)
        finally:
            self.at_work -= 1

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if not path.startswith("/webhooks/"):
            await asyncio.sleep(0.1)
            return await said_by(send, 200, path.encode())
        if path == "/webhooks/early":
            return await said_by(send, 404, NOT_FOUND)
        if path == "/webhooks/streamed":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in (b"one", b"", b"two"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            return await send({"type": "http.response.body"})
        if path == "/webhooks/broken":
            raise RuntimeError("a bug")
        size = int(dict(scope["headers"]).get(b"content-length", 0))
        if size <= MAX_BODY:
            size = 0
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.lost_ones += 1
                    return None
                size += len(message["body"])
                if size > MAX_BODY or not message["more_body"]:
                    break
        if size > MAX_BODY:
            return await said_by(send, 413, b"too large")
        if path == "/webhooks/slow":
            await asyncio.sleep(1.0)
        return await said_by(send, 200, b"%d" % size)


async def said_by(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(*, app: Told | None = None, **limits: Any) -> Iterator[tuple[int, Gate]]:
    """Serve `app` under limits that the configuration would give; yields its port and its gate."""
    gate = Gate(msgspec.structs.replace(IngressSettings(), **limits))
    listener = socket.create_server(("127.0.0.1", 0))
    stop = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        assert await serve(app or Told(), gate, listener, stop)

    thread = threading.Thread(target=uvloop.run, args=(main(),))
    thread.start()
    try:
        yield listener.getsockname()[1], gate
    finally:
        wait_for(lambda: bool(loops), "it to have started")
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def port() -> Iterator[int]:
    with served(header_timeout=Duration(0.4), body_timeout=Duration(0.4)) as (port, _):
        yield port


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


HEAD = b"POST /webhooks/any HTTP/1.1\r\nhost: x\r\n"
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
        pytest.param([b"POST /webhooks/" + b"p" * 17_000 + b" HTTP/1.1\r\n\r\n"], id="a long request line"),
        pytest.param([b"POST /webhooks/"] + [b"p" * 6_000] * 3, id="a request line that does not end"),
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
        assert answer(connection).startswith(b"HTTP/1.1 413 ")
        connection.sendall(HEAD + b"content-length: 0\r\n\r\n")
        assert b"HTTP/1.1 200 " in connection.recv(65536), "and the connection goes on"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def ask(connection: socket.socket, path: bytes = b"/webhooks/any") -> bytes:
    """Send a small request on a connection, and return the answer."""
    connection.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab" % path)
    return answer(connection)


def answer(connection: socket.socket) -> bytes:
    """Read one answer, whole."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += (data := connection.recv(65536))
        assert data, "closed without an answer"
    length = int(said.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(said.partition(b"\r\n\r\n")[2]) < length:
        said += connection.recv(65536)
    return said


def said_until_closed(connection: socket.socket) -> bytes:
    said = b""
    while data := connection.recv(65536):
        said += data
    return said


def test_header_limits_are_the_configuration_s_and_may_change() -> None:
    big = HEAD + b"x: " + b"y" * 2000 + b"\r\n" + CLOSE + b"\r\n"
    many = HEAD + b"".join(b"x-%d: y\r\n" % i for i in range(20)) + CLOSE + b"\r\n"
    with served(max_header_bytes=1024, max_header_count=16) as (port, gate):
        assert [talk(port, request)[:12] for request in (big, many)] == [b"HTTP/1.1 431"] * 2
        gate.configure(IngressSettings(max_header_bytes=65535, max_header_count=22))
        assert [talk(port, request)[:12] for request in (big, many)] == [b"HTTP/1.1 200"] * 2
        # As much as the configuration may allow is as much as the parser can do.
        assert talk(port, HEAD + b"x: " + b"y" * 65_000 + b"\r\n" + CLOSE + b"\r\n").startswith(
            b"HTTP/1.1 200 "
        )
        assert talk(
            port, b"POST /webhooks/" + b"p" * 65_400 + b" HTTP/1.1\r\nhost: x\r\n" + CLOSE + b"\r\n"
        ).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", [b"/webhooks/early", b"/webhooks/any"])
def test_a_connection_whose_answer_overtook_the_body_is_closed_when_idle(
    path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress.server.connection, "KEEP_ALIVE_S", 0.5)
    with served() as (port, gate), connect(port) as connection:
        length = (
            2 if path == b"/webhooks/early" else 1001
        )  # one path is answered before any body, one by its length
        connection.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path, length))
        assert answer(connection).startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 413 "))
        connection.sendall(b"x" * length)
        assert connection.recv(65536) == b"", "it ends, and no request of ours made it"
        wait_for(lambda: not gate.connections, "the connection to be counted out")


def test_a_body_that_drips_after_its_answer_has_no_more_time_than_another() -> None:
    with served(body_timeout=Duration(0.4)) as (port, gate), connect(port) as connection:
        connection.sendall(HEAD + b"content-length: 1001\r\n\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 413 ")
        with suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(1000):
                connection.sendall(b"x")
                time.sleep(0.05)
            pytest.fail("never closed")
        wait_for(lambda: not gate.connections, "the connection to be counted out")


def test_a_connection_beyond_the_limit_takes_the_place_of_the_longest_idle_one() -> None:
    with served(max_connections=3) as (port, gate):
        connections = [connect(port) for _ in range(3)]
        for connection in connections:
            assert ask(connection).startswith(b"HTTP/1.1 200 ")
        assert ask(connections[0]).startswith(b"HTTP/1.1 200 ")  # now the second one is the longest idle
        with connect(port) as another:
            assert ask(another).startswith(b"HTTP/1.1 200 ")
            assert connections[1].recv(65536) == b""
            assert ask(connections[0]).startswith(b"HTTP/1.1 200 ")
            assert ask(connections[2]).startswith(b"HTTP/1.1 200 ")
            assert len(gate.connections) == 3
        for connection in connections:
            connection.close()
        wait_for(lambda: not gate.connections and not gate.idle.count, "all to be counted out")


def test_silent_connections_never_keep_a_new_one_out() -> None:
    with served(max_connections=4) as (port, _):
        silent = [connect(port) for _ in range(40)]
        with connect(port) as another:
            assert ask(another).startswith(b"HTTP/1.1 200 ")
        for connection in silent:
            connection.close()


def slow_ones(port: int, count: int) -> list[socket.socket]:
    """Return connections whose requests are complete, and being answered for a second."""
    connections = [connect(port) for _ in range(count)]
    for connection in connections:
        connection.sendall(pipelined(SLOW))
    return connections


def test_where_all_connections_are_at_work_a_new_one_is_told_to_come_again() -> None:
    app = Told()
    with served(app=app, max_connections=2) as (port, gate):
        at_work = slow_ones(port, 2)
        wait_for(lambda: app.at_work == 2, "both to be at work")
        with connect(port) as another:
            # It sends a whole request, and sees the answer for all that.
            another.sendall(HEAD + b"content-length: 200000\r\n\r\n" + b"x" * 200_000)
            said = said_until_closed(another)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 5\r\n" in said
            assert b"connection: close\r\n" in said
        for connection in at_work:
            assert answer(connection).startswith(b"HTTP/1.1 200 "), "those at work are not disturbed"
            connection.close()
        wait_for(lambda: not gate.connections and gate.lingering == 0, "all to be counted out")
        with connect(port) as another:
            assert ask(another).startswith(b"HTTP/1.1 200 ")


def test_a_flood_of_connections_is_turned_away_and_none_lingers() -> None:
    app = Told()
    with served(app=app, max_connections=1) as (port, gate):
        [one] = slow_ones(port, 1)
        wait_for(lambda: app.at_work == 1, "it to be at work")
        flood = [connect(port) for _ in range(200)]
        refused = [said_until_closed(connection).startswith(b"HTTP/1.1 503 ") for connection in flood]
        # Those that came when it was done may have been taken, and closed for each other.
        assert sum(refused) > 0
        assert answer(one).startswith(b"HTTP/1.1 200 ")
        for connection in [one, *flood]:
            connection.close()
        wait_for(lambda: gate.lingering == 0, "all to be let go")


def pipelined(*paths: bytes) -> bytes:
    return b"".join(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab" % path for path in paths)


ANY, SLOW, EARLY = b"/webhooks/any", b"/webhooks/slow", b"/webhooks/early"


@pytest.mark.parametrize(
    ("paths", "answers"),
    [
        ([SLOW, ANY, SLOW, ANY], [b"2", b"2", b"2", b"2"]),
        ([SLOW, EARLY, ANY], [b"2", NOT_FOUND, b"2"]),
        ([b"/a", ANY, b"/b", EARLY, b"/c"], [b"/a", b"2", b"/b", NOT_FOUND, b"/c"]),
        ([ANY, b"/a", SLOW, b"/b"], [b"2", b"/a", b"2", b"/b"]),
        ([SLOW] + [EARLY] * 3000, [b"2"] + [NOT_FOUND] * 3000),
    ],
)
def test_what_is_pipelined_is_answered_in_its_order_whoever_answers(
    paths: list[bytes], answers: list[bytes]
) -> None:
    with served() as (port, _gate), connect(port) as connection:
        connection.sendall(pipelined(*paths))
        with connection.makefile("rb") as said:
            for body in answers:
                while (line := said.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length: "):
                        length = int(line[16:])
                assert said.read(length) == body
        assert ask(connection).endswith(b"\r\n\r\n2"), "and the connection goes on"


@pytest.mark.case(n=29)
@pytest.mark.parametrize("before", [b"", pipelined(SLOW)])
def test_chunks_over_the_limit_are_413_before_they_end(before: bytes) -> None:
    with served() as (port, _gate), connect(port) as connection:
        head = b"POST /webhooks/any HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(before + head + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n")
        said = answer(connection)
        if before:
            assert said.startswith(b"HTTP/1.1 200 ")
            said = said.partition(b"\r\n\r\n2")[2] or answer(connection)
        assert said.startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"ffff\r\n" + b"x" * 65_535 + b"\r\n0\r\n\r\n")
        assert ask(connection).startswith(b"HTTP/1.1 200 "), "what came after that was dropped"


def test_a_body_in_many_pieces_is_whole_at_the_limit() -> None:
    with served() as (port, _), connect(port) as connection:
        head = b"POST /webhooks/any HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n")
        assert answer(connection).endswith(b"\r\n\r\n1000")


@pytest.mark.parametrize(
    ("path", "length", "first"),
    [(ANY, 2, b"HTTP/1.1 100 "), (ANY, 1001, b"HTTP/1.1 413 "), (EARLY, 2, b"HTTP/1.1 404 ")],
)
def test_who_asks_whether_to_send_a_body_is_told(path: bytes, length: int, first: bytes) -> None:
    with served() as (port, _), connect(port) as connection:
        connection.sendall(
            b"POST %b HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
            % (path, length)
        )
        assert connection.recv(65536).startswith(first)
        connection.sendall(b"x" * length)
        if first == b"HTTP/1.1 100 ":
            assert answer(connection).startswith(b"HTTP/1.1 200 ")


def test_http_1_0_is_answered_once() -> None:
    with served() as (port, _):
        said = talk(port, b"POST /webhooks/any HTTP/1.0\r\ncontent-length: 2\r\n\r\nab")
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in said
        assert said.endswith(b"\r\n\r\n2")


def test_a_sender_that_leaves_is_counted_out_whenever_that_is() -> None:
    app = Told()
    with served(app=app) as (port, gate):
        with connect(port) as half, connect(port) as whole, connect(port) as queued:
            half.sendall(HEAD + b"content-length: 2\r\n\r\na")
            whole.sendall(pipelined(SLOW))
            queued.sendall(pipelined(SLOW, ANY))
            wait_for(lambda: app.at_work == 3, "all to be at work")
        wait_for(lambda: not gate.connections and app.at_work == 0, "all to be counted out")
        assert app.lost_ones == 1, "what was whole was taken all the same"
        with connect(port) as another:
            assert ask(another).startswith(b"HTTP/1.1 200 ")


def test_who_does_not_read_answers_is_not_read_from() -> None:
    with served() as (port, _), connect(port) as connection:
        connection.settimeout(1.0)
        many = pipelined(*[EARLY] * 10_000)
        sent = 0
        with suppress(TimeoutError):
            while sent < 100 * len(many):
                sent += connection.send(many[sent % len(many) :])
        assert sent < 60 * len(many)


def test_requests_in_flight_are_answered_when_it_stops() -> None:
    with served() as (port, _):
        connections = [connect(port) for _ in range(3)]
        connections[0].sendall(pipelined(SLOW))
        connections[1].sendall(pipelined(SLOW, ANY))
        connections[2].sendall(HEAD + b"content-length: 2\r\n\r\na")
        time.sleep(0.3)
        rest = threading.Timer(0.3, connections[2].sendall, [b"b"])
        rest.start()
    rest.join()
    for connection, count in zip(connections, (1, 2, 1), strict=True):
        said = said_until_closed(connection)
        assert said.count(b"HTTP/1.1 200 ") == count
        assert b"connection: close\r\n" in said
        connection.close()


def test_who_never_reads_answers_is_closed_in_time() -> None:
    with served(body_timeout=Duration(0.4)) as (port, gate), connect(port) as connection:
        connection.setblocking(False)
        many = pipelined(*[EARLY] * 1000)
        wait_for(lambda: bool(gate.connections), "it to be counted in")
        while gate.connections:
            with suppress(BlockingIOError, ConnectionResetError, BrokenPipeError):
                connection.send(many)
            time.sleep(0.001)
        assert gate.held_bytes == 0


def test_a_request_leaves_nothing_to_the_garbage_collector() -> None:
    """It comes seldom here (`shared.process.garbage`): what it alone can free is memory that grows under load."""
    with served() as (port, _), connect(port) as connection:
        ask(connection)
        gc.collect()
        gc.disable()
        try:
            for _ in range(200):
                ask(connection)
            assert gc.collect() < 100
        finally:
            gc.enable()


def test_of_those_behind_a_proxy_the_client_with_most_makes_room_and_is_told() -> None:
    def post(client: bytes, body: bytes) -> bytes:
        return HEAD + b"x-forwarded-for: %b\r\ncontent-length: 2\r\n\r\n%b" % (client, body)

    with served(max_incomplete_requests=4, trusted_proxies=("127.0.0.1",)) as (port, gate):
        provider, *strangers = (connect(port) for _ in range(5))
        provider.sendall(post(b"192.0.2.1", b"a"))
        wait_for(lambda: gate.incomplete == 1, "it to wait")
        for number, stranger in enumerate(strangers[:-1]):
            stranger.sendall(post(b"192.0.2.66", b"a"))
            wait_for(lambda most=number + 2: gate.incomplete == most, "it to wait too")  # type: ignore[misc]
        strangers[-1].sendall(post(b"192.0.2.66", b"a"))
        told = said_until_closed(strangers[0])
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5\r\n" in told
        provider.sendall(b"b")
        assert answer(provider).endswith(b"\r\n\r\n2")
        for connection in (provider, *strangers):
            connection.close()


@pytest.mark.parametrize(("version", "end"), [(b"1.1", b"0\r\n\r\n"), (b"1.0", b"onetwo")])
def test_an_answer_without_a_length_says_where_it_ends(version: bytes, end: bytes) -> None:
    with served() as (port, _):
        said = talk(port, b"GET /webhooks/streamed HTTP/%b\r\nhost: x\r\n" % version + CLOSE + b"\r\n")
        assert said.endswith(end)
        assert said.count(b"one") == said.count(b"two") == 1


def test_an_application_that_fails_is_a_500_and_the_connection_ends() -> None:
    with served() as (port, gate):
        assert talk(port, pipelined(b"/webhooks/broken", ANY)).startswith(b"HTTP/1.1 500 ")
        wait_for(lambda: not gate.connections, "it to be counted out")


def test_a_client_that_closes_its_side_is_answered() -> None:
    with served() as (port, gate), connect(port) as connection:
        connection.sendall(pipelined(SLOW, ANY) + b"POST /half")
        connection.shutdown(socket.SHUT_WR)
        assert said_until_closed(connection).count(b"HTTP/1.1 200 ") == 2
        wait_for(lambda: not gate.connections, "it to be counted out")


def test_what_is_broken_after_a_request_is_refused_after_its_answer() -> None:
    with served() as (port, _), connect(port) as connection:
        connection.sendall(pipelined(SLOW, ANY) + b"\0\0\0\r\n\r\n")
        said = said_until_closed(connection)
        assert [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]] == [200, 200, 400]
