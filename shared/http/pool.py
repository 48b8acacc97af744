"""The idle connections of each origin, bounded in number and age. The last used is reused first."""

import asyncio

from shared.http.connection import Connection


class Pool:
    """Idle connections by pool key. As far as we know, all of them are open."""

    def __init__(self, *, max_idle: int, max_idle_per_endpoint: int, max_idle_s: float) -> None:
        """Keep at most `max_idle` connections, each for at most `max_idle_s` seconds."""
        self._max_idle = max_idle
        self._max_idle_per_endpoint = max_idle_per_endpoint
        self._max_idle_s = max_idle_s
        self._idle: dict[str, list[Connection]] = {}  # in each list the longest idle first
        self._count = 0
        self._reaper: asyncio.TimerHandle | None = None

    def take(self, key: str, now: float) -> Connection | None:
        """Return the connection that was used last, or None. The caller owns it until `give`."""
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()
            self._count -= 1
            connection.on_lost = None
            if connection.reusable and now - connection.idle_since < self._max_idle_s:
                return connection
            connection.abort()
        return None

    def give(self, key: str, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Take a reusable connection back, or close it if there is no room."""
        idle = self._idle.setdefault(key, [])
        if len(idle) >= self._max_idle_per_endpoint:
            connection.abort()
            return
        connection.idle_since = loop.time()
        connection.on_lost = self._lost
        idle.append(connection)
        self._count += 1
        if self._count > self._max_idle:
            # The one that has been idle longest anywhere: else a quiet target's would displace a busy one's.
            oldest = min((each for each in self._idle.values() if each), key=lambda each: each[0].idle_since)
            self._drop(oldest)
        if self._reaper is None:
            self._reaper = loop.call_later(self._max_idle_s, self._reap, loop)

    def close(self) -> list[Connection]:
        """Close all of them, and return them."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        closing = [connection for idle in self._idle.values() for connection in idle]
        self._idle.clear()
        self._count = 0
        for connection in closing:
            connection.on_lost = None
            connection.abort()
        return closing

    def __len__(self) -> int:
        """Count the idle connections."""
        return self._count

    def _drop(self, idle: list[Connection]) -> None:
        connection = idle.pop(0)
        self._count -= 1
        connection.on_lost = None
        connection.abort()

    def _lost(self, connection: Connection) -> None:
        for idle in self._idle.values():
            if connection in idle:
                idle.remove(connection)
                self._count -= 1
                return

    def _reap(self, loop: asyncio.AbstractEventLoop) -> None:
        before = loop.time() - self._max_idle_s
        for key, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= before:
                self._drop(idle)
            if not idle:
                del self._idle[key]
        again = self._count > 0
        self._reaper = loop.call_later(self._max_idle_s / 2, self._reap, loop) if again else None
