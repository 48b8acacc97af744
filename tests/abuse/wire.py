"""Requests as bytes on a socket: what no well-behaved client sends."""

import contextlib
import socket

from tests.acceptance.gateway import TRUSTSHARE_SECRET

SECRET_LINE = b"x-trustshare-secret: %s\r\n" % TRUSTSHARE_SECRET.encode()
HASTY = 'ingress.header_timeout = "3s"\ningress.body_timeout = "4s"\n'
HEAD = b"POST /webhooks/trustshare HTTP/1.1\r\nhost: x\r\n"
TRUSTED = HEAD + SECRET_LINE


def said(port: int, data: bytes, *, timeout_s: float = 20, ends: bool = True) -> bytes:
    """Send bytes, and no more (unless `ends` is false); return all that comes until the other end closes.

    Where nothing comes for `timeout_s`, what came until then.
    """
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        # The server may have refused, and closed, before all was sent, or before we close our side.
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            while piece := connection.recv(65536):
                answer += piece
    return answer


def statuses(answer: bytes) -> list[int]:
    """Return the status of each answer on a connection."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
