"""Targets that misbehave on purpose, each on a port of its own, served by threads."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable

Behaviour = Callable[[socket.socket], None]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
_BOMB = b"\x1f\x8b\x08\x00" + bytes(60)  # what a decoder would begin to inflate


class Misbehaving:
    """A listening target. `connections` counts who came; `sent` the bytes that it got rid of."""

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self._behave = behave
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is None:
                self._behave(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as secure:
                    self._behave(secure)

    def close(self) -> None:
        # Woken first: a thread that still waits for a closed socket would take the next one's connections, which
        # gets the same number.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        self._listener.close()


def read_request(sock: socket.socket) -> bytes:
    """Read a request, head and body."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += _some(sock)
    head, _, body = request.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += _some(sock)
    return head


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError
    return data


def hangs(sock: socket.socket) -> None:
    """Take the request and say nothing."""
    while sock.recv(65536):
        pass


def never_reads(sock: socket.socket) -> None:
    """Take the connection and nothing more."""
    time.sleep(30)


def drips_headers(sock: socket.socket) -> None:
    """Begin an answer whose head never ends."""
    read_request(sock)
    sock.sendall(HEAD)
    while True:
        time.sleep(0.05)
        sock.sendall(b"x: y\r\n")


def drips_body(sock: socket.socket) -> None:
    """Begin an answer whose body never ends, a byte at a time."""
    read_request(sock)
    sock.sendall(HEAD + b"content-length: 1000000\r\n\r\n")
    while True:
        time.sleep(0.05)
        sock.sendall(b"x")


def endless(sock: socket.socket) -> None:
    """Answer 200 with ten gigabytes."""
    read_request(sock)
    sock.sendall(HEAD + b"content-length: 10000000000\r\n\r\n")
    while True:
        sock.sendall(bytes(65536))


def bomb(sock: socket.socket) -> None:
    """Answer 500 with what claims to be gzip."""
    while True:
        read_request(sock)
        sock.sendall(
            b"HTTP/1.1 500 x\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(_BOMB) + _BOMB
        )


def answers(raw: bytes) -> Behaviour:
    """Answer every request so."""

    def behave(sock: socket.socket) -> None:
        while True:
            read_request(sock)
            sock.sendall(raw)

    return behave
