"""A TCP proxy before Redis that cuts, delays and drips, at chosen commands or at random."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from shared.store.client import source


def script(name: str) -> bytes:
    """What a call of a script looks like on the wire: its digest."""
    return sha1(source(name).encode()).hexdigest().encode()  # noqa: S324


class Cut(NamedTuple):
    """A connection to end at a command: before Redis sees it, or after it ran and before its reply."""

    command: bytes
    ran: bool
    then: Callable[[], object]


class Proxy:
    """Listens on a port of its own; everything goes to the Redis at a Unix socket and back."""

    def __init__(self, redis: Path) -> None:
        self._redis = str(redis)
        self._cuts: list[Cut] = []
        self._lock = threading.Lock()
        self._chance: tuple[random.Random, float] | None = None
        self.cuts_made = 0
        self.delay_s = 0.0
        self.drip_bytes = 0
        self.rewrite: tuple[bytes, bytes] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, command: bytes, *, ran: bool, then: Callable[[], object] = lambda: None) -> None:
        """End the next connection on which `command` comes, once; `then` is called at that moment."""
        with self._lock:
            self._cuts.append(Cut(command, ran, then))

    def cut_at_random(self, seed: int, chance: float) -> None:
        """End connections at any command from now on; with a chance of 0, no more."""
        self._chance = (random.Random(seed), chance) if chance else None

    def waiting_cuts(self) -> int:
        """How many cuts have not happened yet."""
        return len(self._cuts)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._redis)
                except OSError:
                    client.close()
                    continue
                link = _Link(client, server)
                for pump in (self._commands, self._replies):
                    threading.Thread(target=pump, args=(link,), daemon=True).start()

    def _commands(self, link: "_Link") -> None:
        with contextlib.suppress(OSError):
            while data := link.client.recv(1 << 20):
                cut = self._cut_for(data)
                if cut is None:
                    link.server.sendall(data)
                elif cut.ran:
                    link.cut = cut  # the reply's arrival says that it ran: `_replies` ends it then
                    link.server.sendall(data)
                    return
                else:
                    cut.then()
                    break
        link.end()

    def _cut_for(self, data: bytes) -> Cut | None:
        with self._lock:
            for cut in self._cuts:
                if cut.command in data:
                    self._cuts.remove(cut)
                    self.cuts_made += 1
                    return cut
            if self._chance and self._chance[0].random() < self._chance[1]:
                self.cuts_made += 1
                return Cut(b"", self._chance[0].random() < 0.5, lambda: None)
        return None

    def _replies(self, link: "_Link") -> None:
        with contextlib.suppress(OSError):
            while data := link.server.recv(1 << 20):
                if link.cut is not None:
                    link.cut.then()
                    break
                self._pass_on(link.client, data)
        link.end()

    def _pass_on(self, client: socket.socket, data: bytes) -> None:
        if self.rewrite:
            data = data.replace(*self.rewrite)
        time.sleep(self.delay_s)
        step = self.drip_bytes or len(data)
        for at in range(0, len(data), step):
            client.sendall(data[at : at + step])
            if step < len(data):
                time.sleep(0.001)


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.cut: Cut | None = None

    def end(self) -> None:
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
