"""A wall-clock deadline that is put off far more often than it passes."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """One connection's deadline, by one timer that looks, when it fires, whether it has been put off.

    A timer set and cancelled for every part of every request was a tenth of what a request costs.
    """

    __slots__ = ("_fires_at", "_loop", "_passed", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[], None]) -> None:
        """`passed` is called when the deadline has passed; none is set yet."""
        self._loop = loop
        self._passed = passed
        self._when = math.inf
        self._fires_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Put the deadline where it is so many seconds away."""
        self._when = self._loop.time() + seconds
        if self._when < self._fires_at:
            self.stop()
            self._arm()

    def clear(self) -> None:
        """Have none; the timer may still fire, for nothing."""
        self._when = math.inf

    def stop(self) -> None:
        """Cancel the timer too."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fires_at = math.inf

    def _arm(self) -> None:
        self._fires_at = self._when
        self._timer = self._loop.call_at(self._when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._fires_at = math.inf
        if self._when <= self._loop.time():
            self._when = math.inf
            self._passed()
        elif self._when < math.inf:
            self._arm()
