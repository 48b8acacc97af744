"""What a provider's simulation is: scenarios, and the fresh ids, times and amounts of each run.

A provider's `simulation` module holds its scenarios as data, writes their bodies, and names all of it
`SIMULATION`. Only the simulation and the demo load it.
"""

import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from typing import Any
from uuid import uuid4

import msgspec

_fresh = SystemRandom()


class Step(msgspec.Struct, frozen=True):
    """One request of a scenario: the provider's own name of the event, and what is special about it."""

    event: str
    special: dict[str, Any] = {}


def step(event: str, **special: Any) -> Step:
    """Return a step."""
    return Step(event, special)


class Scenario(msgspec.Struct, frozen=True):
    """A lifecycle as a provider would send it."""

    name: str
    about: str
    steps: tuple[Step, ...]


def scenario(name: str, about: str, *steps: str | Step) -> Scenario:
    """Return a scenario. A step without anything special may be given as its event's name."""
    return Scenario(name, about, tuple(Step(each) if isinstance(each, str) else each for each in steps))


class Message(msgspec.Struct, frozen=True):
    """A request to send. `event` is the key of the provider's mapping, if it has one.

    `id` is the request's own, the same in a copy. If it is not `proven`, it is sent without credentials.
    """

    event: str
    body: bytes
    id: str
    proven: bool = True


class Fresh:
    """The fresh values of each lifecycle. Ids never repeat; the same seed repeats amounts and pauses."""

    def __init__(self, random: Random, now: datetime | None = None) -> None:
        self.random = random
        # It began some hours ago, so that its last event is recent.
        self._now = (now or datetime.now(UTC)) - timedelta(hours=12)

    def token(self, length: int = 16) -> str:
        """Return letters and digits."""
        return "".join(_fresh.choices(string.ascii_letters + string.digits, k=length))

    def base32(self, length: int) -> str:
        """Return lower-case Crockford base32."""
        return "".join(_fresh.choices("0123456789abcdefghjkmnpqrstvwxyz", k=length))

    def number(self, digits: int) -> int:
        """Return an integer of `digits` digits."""
        return _fresh.randrange(10 ** (digits - 1), 10**digits)

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid4())

    def amount_minor(self) -> int:
        """Return an even number of minor units: 20.00 to 5,000.00 of most currencies."""
        return 2 * self.random.randrange(1_000, 250_000)

    def later(self, fraction_digits: int) -> str:
        """Advance the lifecycle's clock by some minutes, and return its time in RFC 3339, UTC."""
        pause = timedelta(seconds=self.random.randrange(60, 1200), microseconds=_fresh.randrange(10**6))
        self._now += pause
        digits = f"{self._now:%f}{_fresh.randrange(1000):03}"[:fraction_digits]
        return f"{self._now:%Y-%m-%dT%H:%M:%S}{'.' if digits else ''}{digits}Z"


def decimal(cents: int) -> msgspec.Raw:
    """Return the JSON number of an amount of a currency with two digits, as its text: `1049.10`."""
    return msgspec.Raw(b"%d.%02d" % divmod(cents, 100))


Write = Callable[[Scenario, Fresh], list[Message]]
"""How a provider's module writes a scenario's requests."""


def message(event: str, body: Any, fresh: Fresh, *, proven: bool = True) -> Message:
    """Return the message with this JSON."""
    return Message(event, msgspec.json.encode(body), f"msg_{fresh.token(24)}", proven)


class Demo(msgspec.Struct, frozen=True):
    """The part of a provider that the demo plays.

    `source`: the keys of its source besides `name` and `provider`; `{secret}` stands for the secret.
    `samples`: the names of its sample bodies, in the order in which it would send them.
    `fresh`: returns what in these bodies is new each time → what stands there instead.
    """

    source: str
    samples: tuple[str, ...]
    fresh: Callable[[Fresh], Mapping[str, str]]


class Simulation(msgspec.Struct, frozen=True):
    """A provider's simulation: its scenarios in the order of the listing, and the function that writes their
    requests.
    """

    scenarios: tuple[Scenario, ...]
    write: Write
    demo: Demo | None = None
