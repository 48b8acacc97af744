"""A clock that only the test moves, for scripts, stream ids and expiries alike. No product script knows of it.

Four things follow a clock of Redis; each is brought under the test's:

* scripts that ask `TIME`: their text, as it is loaded, asks the key `test:clock` instead (`told`);
* Python that asks `TIME`: the client's reader of that reply answers with the test's time (`attach`);
* the ids of stream entries: the test's time lies in the year 2100, and a stream never goes back, so an entry that
  bore an id of the test's time makes the server go on from there (`stamp`);
* expiries and how long a taken entry lies: the server's own, which hardly moves during a run. `move` shortens the
  one and lengthens the other. Both come in whole multiples of QUANTUM_MS, and are rounded to them: so the real
  time that passes between two moves, unless it is as long as that, has no effect.

So there are two times: `now_ms`, which scripts see, and `server_ms`, which only `move` moves. They differ by the
milliseconds that `tick` adds, so that no two steps of a run fall into the same one.
"""

import re
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

QUANTUM_MS = 15_000
START_MS = 4_102_444_800_000  # 2100-01-01
KEY = "test:clock"

_TIME = re.compile(r"redis\.call\('TIME'\)")
_TOLD = f"""(function()
    local ms = tonumber(redis.call('GET', '{KEY}'))
    return {{string.format('%d', math.floor(ms / 1000)), string.format('%d', ms % 1000 * 1000)}}
end)()"""

_MOVE = """
local step, quantum, group = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
for _, key in ipairs(redis.call('KEYS', 'hr:*')) do
    local left = redis.call('PTTL', key)
    if left > 0 then
        left = math.ceil(left / quantum) * quantum - step
        if left > 0 then
            redis.call('PEXPIRE', key, left)
        else
            redis.call('DEL', key)
        end
    end
    if redis.call('TYPE', key).ok == 'stream' then
        local taken = redis.pcall('XPENDING', key, group, '-', '+', 10000)
        for _, row in ipairs(taken.err and {} or taken) do
            local idle = math.floor(row[3] / quantum) * quantum + step
            redis.call('XCLAIM', key, group, row[2], 0, row[1], 'IDLE', idle, 'RETRYCOUNT', row[4], 'JUSTID')
        end
    end
end
"""


def told(source: Callable[[str], str]) -> Callable[[str], str]:
    """Return a reader of scripts whose `TIME` is the test's."""
    return lambda name: _TIME.sub(lambda _: _TOLD, source(name))


class Clock:
    """The time of one Redis."""

    def __init__(self, redis: Redis, loop: AbstractEventLoop) -> None:
        self._redis: Any = redis
        self._loop = loop
        self.now_ms = self.server_ms = START_MS
        self._redis.set_response_callback("TIME", self._time)

    def _time(self, response: Any, **kwargs: Any) -> tuple[int, int]:
        return self.now_ms // 1000, self.now_ms % 1000 * 1000

    def start(self) -> None:
        """Begin anew, in an empty Redis."""
        self.now_ms = self.server_ms = START_MS
        self._tell()

    def tick(self) -> None:
        """Let a millisecond pass, which is nothing to expiries."""
        self.now_ms += 1
        self._tell()

    def move(self, quanta: int, group: str) -> None:
        """Let `quanta` times QUANTUM_MS pass."""
        step = quanta * QUANTUM_MS
        self.now_ms += step
        self.server_ms += step
        self._tell()
        self._loop.run_until_complete(self._redis.eval(_MOVE, 0, step, QUANTUM_MS, group))

    def stamp(self, stream: str) -> None:
        """Have the next entry of a stream bear an id of this time. Makes the stream if there is none."""
        try:
            entry = self._loop.run_until_complete(self._redis.xadd(stream, {"": ""}, id=f"{self.now_ms}-1"))
        except ResponseError:
            return  # the stream has seen this millisecond
        self._loop.run_until_complete(self._redis.xdel(stream, entry))

    def _tell(self) -> None:
        self._loop.run_until_complete(self._redis.set(KEY, self.now_ms))
