"""Case 28: slowloris, with shorter deadlines (inside/hasty.py).

Each kind of it is tested in tests/integration/test_protocol.py.
"""

import contextlib
import os
import selectors
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.abuse.wire import HEAD, TRUSTED
from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body

BEGINNINGS = [
    b"",
    b"POST /webh",
    HEAD + b"x-half: ",
    TRUSTED,
    TRUSTED + b"content-length: 100\r\n\r\n{",
    TRUSTED + b"transfer-encoding: chunked\r\n\r\n64\r\n{",
]
HALF_OPEN = 500


@pytest.mark.case(n=28)
def test_500_half_open_requests_are_closed_and_ingress_keeps_answering(folder: Path, sink: Sink) -> None:
    with Watched(folder, target("all", sink.port), sink, inside="hasty") as gateway:
        [ingress] = gateway.children("ingress")
        before = len(os.listdir(f"/proc/{ingress}/fd"))
        connections = []
        for number in range(HALF_OPEN):
            connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
            connection.sendall(BEGINNINGS[number % len(BEGINNINGS)])
            connections.append(connection)
        started = time.monotonic()
        stop = threading.Event()
        dripping = threading.Thread(target=drip, args=(connections, stop))
        dripping.start()
        try:
            answered = [gateway.post("trustshare", body(), once=True).status for _ in range(20)]
            assert answered == [200] * 20
            assert len(os.listdir(f"/proc/{ingress}/fd")) > before + HALF_OPEN / 2, "they were open meanwhile"
            ended = closed(connections, within_s=20)
        finally:
            stop.set()
            dripping.join()
        assert ended == HALF_OPEN, "each has come to its deadline, drip or not"
        assert time.monotonic() - started < 20
        for connection in connections:
            connection.close()
        assert len(os.listdir(f"/proc/{ingress}/fd")) < before + 20
        assert gateway.children("ingress") == [ingress]


def drip(connections: list[socket.socket], stop: threading.Event) -> None:
    """A byte now and then, where one may come: no deadline may be extended by it."""
    while not stop.wait(0.5):
        for connection in [each for number, each in enumerate(connections) if number % len(BEGINNINGS)]:
            with contextlib.suppress(OSError):
                connection.send(b"x")


def closed(connections: list[socket.socket], *, within_s: float) -> int:
    """Count the connections that the other end closes, without an answer."""
    left = selectors.DefaultSelector()
    for connection in connections:
        left.register(connection, selectors.EVENT_READ)
    ended = 0
    deadline = time.monotonic() + within_s
    while left.get_map() and time.monotonic() < deadline:
        for key, _ in left.select(0.2):
            with contextlib.suppress(ConnectionResetError):
                assert connection_of(key).recv(100) == b""
            left.unregister(key.fileobj)
            ended += 1
    return ended


def connection_of(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj
