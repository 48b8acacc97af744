"""The targets of a soak: what each asked for, how the gateway is told to treat it, and how it misbehaves."""

import time
from collections.abc import Callable
from random import Random
from zlib import crc32

import msgspec

from tests.soak.records import Rule

HANG = -1
RESET = -2


class Answer(msgspec.Struct, frozen=True):
    """What a target does with a request: after `delay_s` a status, or HANG, or RESET."""

    status: int = 200
    delay_s: float = 0.0
    retry_after: str = ""


Behaviour = Callable[[Random, str], Answer]
"""Given chance and the event's id: what to do. Not asked once the target is healed."""


def _healthy(chance: Random, id: str) -> Answer:
    return Answer()


def _flaky(chance: Random, id: str) -> Answer:
    """A third fails; and every twenty seconds, all of it for four."""
    if time.monotonic() % 20 < 4 or chance.random() < 0.3:
        return Answer(chance.choice((500, 502, 503)))
    return Answer()


def _hanging(chance: Random, id: str) -> Answer:
    return Answer(HANG) if chance.random() < 0.05 else Answer()


def _resetting(chance: Random, id: str) -> Answer:
    return Answer(RESET, delay_s=chance.choice((0.0, 0.05))) if chance.random() < 0.15 else Answer()


def _slow(chance: Random, id: str) -> Answer:
    return Answer(delay_s=chance.uniform(0.05, 0.8))


def _throttled(chance: Random, id: str) -> Answer:
    """For three seconds of ten it has had enough."""
    return Answer(429, retry_after="1") if time.monotonic() % 10 < 3 else Answer()


def _dead(chance: Random, id: str) -> Answer:
    return Answer(500)


def _picky(chance: Random, id: str) -> Answer:
    """A tenth of all events it refuses whenever they come."""
    return Answer(422) if crc32(id.encode()) % 10 == 0 else Answer()


def _ordered(chance: Random, id: str) -> Answer:
    return Answer(500 if chance.random() < 0.1 else 200, delay_s=chance.uniform(0, 0.05))


class Target(msgspec.Struct, frozen=True):
    """A target: its name is its path. One that does not `heal` misbehaves to the end.

    `keys` are lines of its table; `cut`: its connections go through the proxy that cuts them.
    """

    name: str
    behave: Behaviour
    keys: dict[str, str] = {}
    sources: tuple[str, ...] = ("*",)
    types: tuple[str, ...] = ("*",)
    heals: bool = True
    cut: bool = False

    @property
    def rule(self) -> Rule:
        ordered = "ordering" in self.keys
        return Rule(self.name, self.sources, self.types, ordered=ordered, gives_up=not self.heals)


TARGETS = (
    Target("healthy", _healthy),
    Target("payments", _healthy, types=("payment.*",)),
    Target("flaky", _flaky),
    Target("hanging", _hanging),
    Target("resetting", _resetting),
    Target("slow", _slow, {"rate": '"100/s"'}),
    Target("throttled", _throttled),
    Target("cut", _slow, cut=True),
    Target("picky", _picky, {"give_up_on": "[422]"}, heals=False),
    # Without a breaker: what waits behind one never ages, and a soak would wait for a probe of each event.
    Target(
        "dead",
        _dead,
        {
            "retry": '{ initial = "0.5s", factor = 2.0, max = "2s", attempts = 3 }',
            "breaker": "{ failures = 1000000 }",
        },
        heals=False,
    ),
    # Two sources are admitted in turn for it; the others by whichever worker comes.
    Target("ordered", _ordered, {"ordering": '"transaction"'}, sources=("trustap", "orders")),
)
