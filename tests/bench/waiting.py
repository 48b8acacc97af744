"""A Redis in which many deliveries wait for their retry."""

import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from shared.store.client import RedisClient
from shared.store.due import Attempt, BreakerPolicy, End, Limits, Settlement
from shared.store.keys import Keys
from tests.bench.events import SOURCE, admit, with_client
from tests.bench.stack import Stack
from tests.integration.due import Due

KEYS = Keys()

TARGET = "waiting"
HOUR_MS = 3_600_000
LIMITS = Limits(lease_ms=30_000, concurrency=10_000)
BREAKER_POLICY = BreakerPolicy(failures=10**9, first_ms=1, longest_ms=1, disable_after_ms=10**12)
AT_ONCE = 1000
BATCH = 32

_LUA = Path(__file__).with_suffix(".lua").read_text()


class Waiting:
    """An hour of retries at one target of a stack. One of them was really admitted, tried and put back; the
    others are copies of it, of which the first is checked against it.
    """

    def __init__(self, it: Stack) -> None:
        self._redis: Any = it.redis  # redis-py says of most replies that they may be anything
        self._socket = it.socket
        self._empty = self._used()
        admit(it.socket, 0, 1, lambda _: [TARGET])
        with_client(it.socket, _fail)
        self._id = self._redis.zrange(KEYS.open, 0, -1)[0]
        self.count = 1
        self.grow(2)
        _check_copy(self._redis)

    def grow(self, count: int) -> None:
        """Have `count` wait."""
        script = self._redis.register_script(_LUA)
        while self.count < count:
            more = min(AT_ONCE, count - self.count)
            names = [self._id, f"{0:010d}", SOURCE, TARGET]
            from_ms = _now_ms() + HOUR_MS
            script(args=[*names, self.count, more, from_ms, from_ms + HOUR_MS])
            self.count += more

    def claim_us(self, times: int) -> list[int]:
        """Have a batch fall due, claim it, put it back; so many times. Returns what each claim cost Redis."""
        due = KEYS.due(TARGET)

        async def claim(client: RedisClient) -> None:
            store = Due(client)
            for _ in range(times):
                next_up = self._redis.zrange(due, 0, BATCH - 1)
                self._redis.zadd(due, dict.fromkeys(next_up, _now_ms() - 1))
                claims = await store.claim(TARGET, most=BATCH, limits=LIMITS)
                assert len(claims.entries) == BATCH
                batch = [Settlement(claimed, End.BACK) for claimed, _ in claims.entries]
                await store.settle(batch, {TARGET: BREAKER_POLICY})
                ids = [claimed.event_id for claimed, _ in claims.entries]
                self._redis.zadd(due, {id: _now_ms() + HOUR_MS * random.uniform(1, 2) for id in ids})

        self._redis.config_set("slowlog-max-len", 8 * times)
        self._redis.config_set("slowlog-log-slower-than", 0)
        self._redis.slowlog_reset()
        with_client(self._socket, claim)
        self._redis.config_set("slowlog-log-slower-than", -1)
        entries = self._redis.slowlog_get(8 * times)
        # By the keys that it has and no other script: the commands inside of a script are not listed.
        mark = f" 4 {due} ".encode()
        return [entry["duration"] for entry in entries if mark in entry["command"]]

    def bytes_each(self) -> float:
        """Return what Redis takes for each that waits: event, attempt and body."""
        return (self._used() - self._empty) / self.count

    def _used(self) -> int:
        return int(self._redis.info("memory")["used_memory"])


async def _fail(client: RedisClient) -> None:
    store = Due(client)
    claims = await store.claim(TARGET, most=1, limits=LIMITS)
    [(claimed, _)] = claims.entries
    attempt = Attempt(n=1, at_ms=claims.now_ms, duration_ms=12.5, status=503, answer="no")
    settled, _ = await store.settle(
        [Settlement(claimed, End.RETRY, HOUR_MS, attempt)], {TARGET: BREAKER_POLICY}
    )
    assert settled == [True]


def _check_copy(redis: Any) -> None:
    """Hold the first copy against what it is a copy of: the same keys, of the same kinds and lengths, all of it."""
    shapes: dict[str, list[object]] = defaultdict(list)
    sizes: dict[str, list[int]] = defaultdict(list)
    for name in map(bytes.decode, redis.scan_iter("hr:*")):
        kind, of = redis.type(name), ":".join(name.split(":")[:2])
        if name in (KEYS.open, KEYS.due(TARGET)):
            assert redis.zcard(name) == 2, name
        elif of not in ("hr:target", "hr:inbox", "hr:rung", "hr:dedupe"):
            hash = redis.hgetall(name) if kind == b"hash" else {}
            lengths = {field: len(value) for field, value in hash.items()}
            shapes[of].append((kind, len(name), lengths, redis.ttl(name) > 0))
            sizes[of].append(redis.memory_usage(name, samples=0) or 0)
    assert set(shapes) == {"hr:event", "hr:attempts", "hr:transaction"}, set(shapes)
    for of, found in shapes.items():
        assert len(found) == 2, (of, found)
        assert found[0] == found[1], (of, found)
        # An allocator may give a little more than it was asked for.
        assert max(sizes[of]) <= 1.1 * min(sizes[of]) + 64, (of, sizes[of])


def _now_ms() -> int:
    return int(time.time() * 1000)
