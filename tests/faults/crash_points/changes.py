"""Which operations change something: a kill before one that does not, or after it, leaves the same behind."""

import re
from collections.abc import Iterable

from redis import Redis

from shared.store.client import source
from tests.faults.crash_points.hook import SCRIPTS

ABOUT = {"client", "config get", "hello", "info", "memory", "ping", "script exists", "script load", "time"}
"""Commands about the server or the connection. Of a script that is loaded nobody can tell but by its absence."""

AROUND = {"multi", "exec"}

_CALL = re.compile(r"redis\.p?call\('(\w+)'")


class Changes:
    """Tells operations that only read from all others, by what Redis says of its commands."""

    def __init__(self, redis: Redis) -> None:
        commands = redis.command()
        reading = {name.lower() for name, about in commands.items() if "readonly" in about["flags"]}
        self._harmless = reading | ABOUT | AROUND
        for script in SCRIPTS:
            if {call.lower() for call in _CALL.findall(source(script))} <= self._harmless:
                self._harmless.add(script)

    def made_by(self, operation: str) -> bool:
        """Tell whether an operation changes anything in Redis or at a target. What is not known does."""
        return operation != "connect to a target" and not self._all_read(operation.split("+"))

    def _all_read(self, names: Iterable[str]) -> bool:
        return {name for name in names if name} <= self._harmless
