"""The delivery client against targets on real sockets: well-behaved, broken and hostile ones."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvicorn

from shared.http import Answer, Egress
from shared.http.connection import Connection, Ended

from .raw_targets import (
    AMPLE_S,
    OK,
    SOON_S,
    Target,
    answering,
    at,
    client,
    deaf,
    gone,
    post,
    refused,
    run_on,
    target,
)

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
BIG = bytes(8 * 1024 * 1024)  # more than the kernel buffers between two sockets


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's coroutine on each loop, and see that it leaves nothing open."""
    return lambda main: run_on(request.param, main)


async def answer_of(*pieces: bytes, then_close: bool = False, **settings: Any) -> Answer:
    async with target(answering(*pieces, then_close=then_close)) as here, client(**settings) as egress:
        return await post(egress, at(here.port))


# -- a plain exchange


def test_a_request_goes_out_as_the_client_frames_it(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client() as egress:
            assert await post(egress, at(here.port)) == Answer(200, None, b"ok", False)
            assert here.requests == [
                b"POST /hooks HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept-encoding: identity\r\n"
                b"content-length: 2\r\ncontent-type: application/json\r\n\r\n" % here.port
            ]

    run(main)


def test_connections_are_kept_and_the_last_used_is_reused_first(run: Run) -> None:
    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = here.connections
        while True:
            await here.read(reader)
            await asyncio.sleep(0.01 * number)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number)

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            for _ in range(2):
                answers = await asyncio.gather(*(post(egress, at(here.port)) for _ in range(8)))
                assert {answer.body for answer in answers} == {b"%d" % n for n in range(1, 9)}
            assert here.connections == 8
            for _ in range(3):
                assert (await post(egress, at(here.port))).body == b"8"  # the slowest came back last

    run(main)


@pytest.mark.parametrize("size", [0, 1, 262144, len(BIG)])
def test_a_body_of_any_size_arrives_whole(run: Run, size: int) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client() as egress:
            for _ in range(2):
                assert (await post(egress, at(here.port), BIG[:size])).status == 200
            assert here.connections == 1

    run(main)


@pytest.mark.parametrize(
    ("raw", "expected", "kept"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, None, b"", False), True),
        (b"HTTP/1.1 304 x\r\ncontent-length: 9\r\n\r\n", Answer(304, None, b"", False), True),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Answer(200, None, b"", False), True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Answer(200, None, b"ok", False), True),
        (b"HTTP/1.1 103 x\r\nretry-after: 9\r\n\r\n" * 8 + OK, Answer(200, None, b"ok", False), True),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            Answer(200, None, b"abcde", False),
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nretry-after: 9\r\n\r\n",
            Answer(200, None, b"", False),
            True,
        ),
        (
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx",
            Answer(200, None, b"x", False),
            True,
        ),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", Answer(200, None, b"x", False), False),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 1\r\n\r\nx",
            Answer(200, None, b"x", False),
            False,
        ),
        (
            b"HTTP/1.1 429 x\r\nRetry-After: 120\r\ncontent-length: 0\r\n\r\n",
            Answer(429, b"120", b"", False),
            True,
        ),
        (
            b"HTTP/1.1 503 x\r\nretry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\ncontent-length: 0\r\n\r\n",
            Answer(503, b"Fri, 31 Dec 1999 23:59:59 GMT", b"", False),
            True,
        ),
        (
            b"HTTP/1.1 429 x\r\nretry-after: " + b"9" * 65 + b"\r\ncontent-length: 0\r\n\r\n",
            Answer(429, None, b"", False),
            True,
        ),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            Answer(302, None, b"", False),
            True,
        ),
        (
            b"HTTP/1.1 500 x\r\ncontent-length: 3000\r\n\r\n" + b"x" * 3000,
            Answer(500, None, b"x" * 1024, True),
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00",
            Answer(200, None, b"\x1f\x8b\x08\x00", False),
            True,
        ),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_an_answer_is_read_however_it_is_framed_and_cut(
    run: Run, raw: bytes, expected: Answer, kept: bool, step: int
) -> None:
    async def main() -> None:
        pieces = [raw[i : i + step] for i in range(0, len(raw), step)]
        async with target(answering(*pieces[:200], b"".join(pieces[200:]))) as here, client() as egress:
            for _ in range(2):
                assert await post(egress, at(here.port)) == expected
            assert here.connections == (1 if kept else 2)

    run(main)


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"],
)
def test_an_answer_without_a_length_ends_where_the_connection_ends(run: Run, head: bytes) -> None:
    async def main() -> None:
        assert await answer_of(head, b"abc", b"def", then_close=True) == Answer(200, None, b"abcdef", False)

    run(main)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nconte",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_cut_short_is_no_answer(run: Run, raw: bytes) -> None:
    async def main() -> None:
        assert (await refused(answer_of(raw, then_close=True))).kind == "protocol"

    run(main)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00" * 100,
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99 x\r\n\r\n",
        b"HTTP/1.1 020 x\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 000 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK,
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 32768 + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 8000 + b"content-length: 0\r\n\r\n",
        b"\r\n" * 20000 + OK,
    ],
)
def test_what_is_not_an_answer_is_a_protocol_error_that_repeats_nothing(run: Run, raw: bytes) -> None:
    async def main() -> None:
        error = await refused(answer_of(raw))
        assert error.kind == "protocol"
        assert len(str(error)) < 200
        assert "\n" not in str(error)

    run(main)


def test_a_long_head_within_the_limit_is_read(run: Run) -> None:
    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\nx: " + b"a" * 30000 + b"\r\ncontent-length: 40000\r\n\r\n"
        answer = await answer_of(head + b"b" * 40000)
        assert (answer.status, answer.body) == (200, b"b" * 1024)

    run(main)


# -- deadlines


@pytest.mark.case(n=17)
@pytest.mark.parametrize(
    ("start", "drip", "phase"),
    [
        (b"", b"", "before an answer came"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", "answer's head"),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"x", "answer's body"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b"x", "answer's body"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n", "answer's body"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n", "answer's body"),
    ],
)
def test_a_dripping_target_cannot_pass_the_deadline(run: Run, start: bytes, drip: bytes, phase: str) -> None:
    """FAULTS 17: a target that drips its head or its body."""

    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await here.read(reader)
        writer.write(start)
        ended = asyncio.ensure_future(gone(reader))
        while not ended.done():
            writer.write(drip)
            await asyncio.wait((ended,), timeout=0.02)

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            error = await refused(post(egress, at(here.port), timeout_s=3 * SOON_S))
            assert error.kind == "timeout"
            assert phase in error.detail
            await here.until_closed()

    run(main)


@pytest.mark.case(n=17)
@pytest.mark.parametrize("size", [262144, len(BIG)])
def test_a_target_that_never_reads_cannot_pass_the_deadline(run: Run, size: int) -> None:
    """FAULTS 17: a target that never reads."""

    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport too
        await asyncio.sleep(AMPLE_S)

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            error = await refused(post(egress, at(here.port), BIG[:size], timeout_s=SOON_S))
            assert error.kind == "timeout"
            if size == len(BIG):
                assert "request was sent" in error.detail

    run(main)


def test_connecting_counts_towards_the_deadline(run: Run) -> None:
    async def main() -> None:
        with deaf("127.0.0.1") as port:
            async with client() as egress:
                error = await refused(post(egress, at(port), timeout_s=SOON_S))
                assert (error.kind, "connecting" in error.detail) == ("timeout", True)

    run(main)


def test_a_deadline_that_has_passed_already_ends_a_post(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client() as egress:
            assert (await refused(post(egress, at(here.port), timeout_s=0))).kind == "timeout"
            await post(egress, at(here.port))
            assert (await refused(post(egress, at(here.port), timeout_s=-1))).kind == "timeout"

    run(main)


@pytest.mark.parametrize("delay_s", [0, 0.001, 0.1])
def test_a_cancelled_post_closes_its_connection(run: Run, delay_s: float) -> None:
    async def main() -> None:
        async with target(answering(b"HTTP/1.1 200 OK\r\n")) as here, client() as egress:
            posts = [asyncio.ensure_future(post(egress, at(here.port))) for _ in range(5)]
            await asyncio.sleep(delay_s)
            for each in posts:
                each.cancel()
            ended = await asyncio.gather(*posts, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            await asyncio.sleep(0.05)  # for the target to take what was connected, before it ends itself
            await here.until_closed()

    run(main)


def test_a_post_cancelled_as_its_answer_arrives_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client() as egress:
            for step in range(40):
                posted = asyncio.ensure_future(post(egress, at(here.port)))
                for _ in range(step):
                    await asyncio.sleep(0)
                posted.cancel()
                await asyncio.gather(posted, return_exceptions=True)
            assert (await post(egress, at(here.port))).body == b"ok"
            await here.until_closed(connections=1)

    run(main)


def test_an_exchange_cancelled_after_its_end_leaves_the_kept_connection(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client() as egress:
            ended: asyncio.Future[Answer | Exception] = asyncio.get_running_loop().create_future()
            endpoint = at(here.port)
            exchange = egress.begin(endpoint, endpoint.request([], b"{}"), AMPLE_S, ended.set_result)
            assert isinstance(await ended, Answer)
            exchange.cancel()
            await post(egress, endpoint)
            assert here.connections == 1

    run(main)


# -- caps


@pytest.mark.case(n=18)
@pytest.mark.parametrize(
    ("head", "unit"),
    [
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 8192),
    ],
)
def test_an_endless_answer_is_cut_and_its_status_decides(run: Run, head: bytes, unit: bytes) -> None:
    """FAULTS 18: more than anyone should read."""
    sent = 0

    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await here.read(reader)
        writer.write(head)
        while True:
            writer.write(unit)
            await writer.drain()
            sent += len(unit)

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            answer = await post(egress, at(here.port))
            assert (answer.status, answer.truncated) == (200, True)
            assert set(answer.body) <= {ord("x")}
            assert len(answer.body) <= 1024
            await here.until_closed()
        assert sent < 64 * 1024 * 1024  # what the kernel's buffers took, not 10 GiB

    run(main)


def test_the_caps_are_settings(run: Run) -> None:
    async def main() -> None:
        raw = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + b"x" * 500
        assert (await answer_of(raw, keep_body_bytes=10)).body == b"x" * 10
        assert (await refused(answer_of(raw, max_head_bytes=20))).kind == "protocol"
        cut = await answer_of(raw[:200], max_answer_bytes=100)
        assert (cut.status, cut.truncated) == (200, True)

    run(main)


# -- kept connections


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK, then_close=True)) as here, client() as egress:
            for expected in (1, 2, 3):
                assert (await post(egress, at(here.port))).status == 200
                assert here.connections == expected
                await here.until_closed()

    run(main)


@pytest.mark.parametrize("reset", [False, True])
def test_a_kept_connection_closed_under_a_request_gets_one_fresh_try(run: Run, reset: bool) -> None:
    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await here.read(reader)
        if here.connections > 2:
            return
        writer.write(OK)
        if reset:
            await reader.read(10)  # leaves bytes unread, which makes of the close a reset
        else:
            await here.read(reader)

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            assert (await post(egress, at(here.port))).status == 200
            assert (await post(egress, at(here.port), b"x" * 1000)).status == 200
            assert here.connections == 2
            # Both a kept connection and the fresh one closed under it: no third try.
            error = await refused(post(egress, at(here.port), b"x" * 1000))
            assert error.kind == "protocol"
            assert here.connections == 3

    run(main)


def test_a_kept_connection_closed_within_an_answer_gets_no_second_try(run: Run) -> None:
    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await here.read(reader)
        writer.write(OK)
        await here.read(reader)
        writer.write(b"H")

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            await post(egress, at(here.port))
            assert (await refused(post(egress, at(here.port)))).kind == "protocol"
            assert (here.connections, len(here.requests)) == (1, 2)

    run(main)


def test_a_fresh_try_has_the_same_deadline(run: Run) -> None:
    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await here.read(reader)
        if here.connections == 1:
            writer.write(OK)
            await here.read(reader)
        else:
            await gone(reader)

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            await post(egress, at(here.port))
            assert (await refused(post(egress, at(here.port), timeout_s=SOON_S))).kind == "timeout"
            assert here.connections == 2

    run(main)


@pytest.mark.parametrize("stray", [b"x", b"HTTP/1.1 500 x\r\ncontent-length: 1\r\n\r\ny", b"HTTP/1.1 50"])
@pytest.mark.parametrize("at_once", [True, False])
def test_bytes_that_nobody_asked_for_are_never_the_next_answer(run: Run, stray: bytes, at_once: bool) -> None:
    async def main() -> None:
        pieces = (OK + stray,) if at_once else (OK, stray)
        async with (
            target(answering(*pieces, pause_s=0 if at_once else 0.05)) as here,
            client() as egress,
        ):
            for expected in (1, 2):
                assert await post(egress, at(here.port)) == Answer(200, None, b"ok", False)
                await here.until_closed()
                assert here.connections == expected

    run(main)


@pytest.mark.parametrize("hard", [False, True])
def test_an_answer_before_the_end_of_the_request_counts(run: Run, hard: bool) -> None:
    ended = asyncio.Event()

    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
        if not hard:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport too
            await ended.wait()

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            for expected in (1, 2):
                assert (await post(egress, at(here.port), BIG)).status == 413
                assert here.connections == expected
            ended.set()

    run(main)


def test_an_early_answer_may_end_by_the_targets_half_close(run: Run) -> None:
    ended = asyncio.Event()

    async def handler(here: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport too
        writer.write(b"HTTP/1.1 413 x\r\n\r\nno")
        writer.write_eof()
        await ended.wait()

    async def main() -> None:
        async with target(handler) as here, client() as egress:
            assert await post(egress, at(here.port), BIG) == Answer(413, None, b"no", False)
            ended.set()

    run(main)


def test_idle_connections_are_bounded_in_number(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, target(answering(OK)) as there:
            async with client(max_idle_per_endpoint=2) as egress:
                await asyncio.gather(*(post(egress, at(here.port)) for _ in range(6)))
                await here.until_closed(connections=2)
                assert here.open == 2
            async with client(max_idle=3) as egress:
                await asyncio.gather(*(post(egress, at(here.port)) for _ in range(3)))
                # The one idle for longest gives way, whichever target's it is.
                await asyncio.gather(*(post(egress, at(there.port)) for _ in range(2)))
                await here.until_closed(connections=1)
                assert (here.open, there.open) == (1, 2)

    run(main)


def test_idle_connections_are_bounded_in_age(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK)) as here, client(max_idle_s=0.1) as egress:
            await asyncio.gather(*(post(egress, at(here.port)) for _ in range(3)))
            await here.until_closed()  # by a timer: no further post is needed

    run(main)


def test_a_closed_client_keeps_nothing_open(run: Run) -> None:
    async def main() -> None:
        async with target(answering(OK, pause_s=0.05)) as here:
            egress = Egress()
            await post(egress, at(here.port))
            last = asyncio.ensure_future(post(egress, at(here.port)))
            await asyncio.sleep(0.01)
            await egress.close()
            assert (await last).status == 200
            await here.until_closed()
            with pytest.raises(RuntimeError, match="closed"):
                await post(egress, at(here.port))

    run(main)


# -- headers, and a target of another make


def test_a_mistake_of_our_own_ends_a_post_and_its_connection(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, faulty = Connection.exchange, True

    def failing(self: Connection, request: bytes, deadline: float, ended: Ended) -> None:
        exchange(self, request, deadline, ended)
        if faulty:
            raise ZeroDivisionError

    async def main() -> None:
        nonlocal faulty
        monkeypatch.setattr(Connection, "exchange", failing)
        async with target(answering(OK)) as here, client() as egress:
            with pytest.raises(ZeroDivisionError):
                await post(egress, at(here.port))  # on a new connection
            faulty = False
            await post(egress, at(here.port))
            faulty = True
            with pytest.raises(ZeroDivisionError):
                await post(egress, at(here.port))  # on a kept one
            await here.until_closed()

    run(main)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_uvicorn_target_is_served_over_kept_connections(run: Run, http: Any) -> None:
    peers: set[Any] = set()
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        peers.add(scope["client"])
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        bodies.append(body)
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"taken"})

    config = uvicorn.Config(app, port=0, http=http, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        port = listener.getsockname()[1]

        async def main() -> None:
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.01)
            async with client() as egress:
                for size in (2, 0, 262144):
                    answers = await asyncio.gather(*(post(egress, at(port), bytes(size)) for _ in range(4)))
                    assert answers == [Answer(202, None, b"taken", False)] * 4

        try:
            asyncio.run(main()) if http == "h11" else run(main)
        finally:
            server.should_exit = True
            thread.join()
    assert len(bodies) == 12
    assert len(peers) == 4
