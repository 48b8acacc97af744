"""What a soak does to the gateway, by chance from one seed: kills, stops, pauses, cut connections."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from random import Random

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from tests.acceptance.gateway import Gateway

PAUSE_S = (0.8, 3.5)
WORKER_STOPS_S = (2.0, 5.0, 16.0, 35.0)
"""How long a worker stands still: within its lease, past it (12 s), past its turn (15 s), past the time
after which what it took is taken over (30 s)."""
REDIS_STOPS_S = (0.5, 4.0)


class Deed(msgspec.Struct, frozen=True):
    """What was done, and when, in seconds since the soak began."""

    at_s: float
    what: str


class Chaos:
    """One deed after another; all kinds come up, by a deck that is shuffled and played to its end."""

    def __init__(
        self, gateway: Gateway, redis: Redis, *, seed: str, lasts_s: float, tell: Callable[[Deed], None]
    ) -> None:
        self.deeds: list[Deed] = []
        self._gateway = gateway
        self._redis = redis
        self._chance = Random(f"{seed}:chaos")
        self._lasts_s = lasts_s
        self._tell = tell
        self._began = time.monotonic()
        self._next_at = self._began + self._chance.uniform(*PAUSE_S)
        self._deck: list[Callable[[], str]] = []
        self._stopped: list[tuple[float, str, int]] = []

    def step(self) -> None:
        """Do what is due by now."""
        now = time.monotonic()
        self._wake(now)
        if now < self._next_at:
            return
        self._next_at = now + self._chance.uniform(*PAUSE_S)
        if not self._deck:
            self._deck = [
                *(lambda: self._signal("workers", signal.SIGKILL),) * 4,
                *(lambda: self._signal("ingress", signal.SIGKILL),) * 3,
                *(lambda: self._signal("workers", signal.SIGTERM),) * 2,
                lambda: self._signal("ingress", signal.SIGTERM),
                *(self._stop_worker,) * 2,
                self._stop_redis,
                lambda: self._signal("redis-server", signal.SIGKILL),
                *(self._cut,) * 3,
            ]
            self._chance.shuffle(self._deck)
        if what := self._deck.pop()():
            self._note(what)

    def end(self) -> None:
        """Let go on whatever was stopped."""
        self._wake(float("inf"))

    def _note(self, what: str) -> None:
        deed = Deed(round(time.monotonic() - self._began, 1), what)
        self.deeds.append(deed)
        self._tell(deed)

    def _signal(self, kind: str, number: signal.Signals) -> str:
        running = sorted(self._gateway.children(kind))
        if not running:
            return ""  # all of that kind are being started again
        pid = self._chance.choice(running)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return f"{number.name} {kind} {pid}"

    def _stop_worker(self) -> str:
        # A short soak must not end before a stopped worker goes on.
        short = [for_s for for_s in WORKER_STOPS_S if for_s < self._lasts_s / 3]
        return self._stop("workers", self._chance.choice(short or WORKER_STOPS_S[:1]))

    def _stop_redis(self) -> str:
        return self._stop("redis-server", self._chance.uniform(*REDIS_STOPS_S))

    def _stop(self, kind: str, for_s: float) -> str:
        said = self._signal(kind, signal.SIGSTOP)
        if said:
            self._stopped.append((time.monotonic() + for_s, kind, int(said.split()[-1])))
        return said and f"{said} for {for_s:.1f} s"

    def _wake(self, now: float) -> None:
        for stopped in [each for each in self._stopped if each[0] <= now]:
            self._stopped.remove(stopped)
            _, kind, pid = stopped
            if pid in self._gateway.children(kind):  # else it was killed as it stood
                os.kill(pid, signal.SIGCONT)
                self._note(f"SIGCONT {kind} {pid}")

    def _cut(self) -> str:
        """Cut some of the connections to Redis."""
        share = self._chance.choice((0.1, 0.5, 1.0))
        cut = 0
        try:
            mine = self._redis.client_id()
            for client in self._redis.client_list():
                if int(client["id"]) != mine and self._chance.random() < share:
                    cut += self._redis.client_kill_filter(_id=client["id"])
        except RedisError as error:
            return f"CLIENT KILL: Redis is away ({type(error).__name__})"
        return f"CLIENT KILL of {cut} connections to Redis"
