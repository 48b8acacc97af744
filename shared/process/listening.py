"""Listening for connections: a supervisor opens the socket, and its child processes serve it."""

import socket

from shared.errors import CommandFailed

BACKLOG = 2048
"""How many connections may wait until a process accepts them."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises: CommandFailed.

    The supervisor holds it, so that while an ingress process is started again connections wait in the
    backlog and none is refused.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise CommandFailed(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    listener.set_inheritable(True)
    return listener
