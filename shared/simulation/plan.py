"""Which requests a run sends, in which order, to which source. Copies, order and damage are by chance."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal

import msgspec

from shared.errors import CommandFailed
from shared.providers.base import AnyAdapter
from shared.providers.scenarios import Fresh, Message, Scenario, Write

Fate = Literal["sound", "cut", "forged"]


class Planned(msgspec.Struct, frozen=True):
    """A request to send.

    If `cut`, it has half a body, properly signed. If `forged`, it has no valid credentials.
    """

    adapter: AnyAdapter
    message: Message
    fate: Fate
    copy: bool

    @property
    def expected(self) -> frozenset[int]:
        """The statuses that its answer may have."""
        if self.fate == "forged" or (self.fate == "cut" and not self.message.proven):
            return frozenset({401, 404})
        return frozenset({200})


class Chances(msgspec.Struct, frozen=True):
    """How often a request is sent again, and how often damaged; whether the order is shuffled."""

    duplicates: float = 0.0
    corrupt: float = 0.0
    shuffle: bool = False


class Plan:
    """What a run sends: each scenario `count` times, as tracks. A track is a list of requests whose order
    matters.

    The same seed makes the same choices; ids and times are fresh whatever the seed is.
    """

    def __init__(
        self,
        adapters: Sequence[AnyAdapter],
        scenarios: Sequence[Scenario],
        write: Write,
        chances: Chances,
        *,
        count: int,
        random: Random,
    ) -> None:
        self.adapters = adapters
        self.scenarios = scenarios
        self.count = count
        self._write = write
        self._chances = chances
        self._random = random
        for scenario in scenarios:
            check_playable(scenario, adapters)

    @property
    def shuffled(self) -> bool:
        """Whether a track is one request, and not a whole lifecycle."""
        return self._chances.shuffle

    @property
    def lifecycles(self) -> int:
        """How many lifecycles are played."""
        return self.count * len(self.scenarios)

    def tracks(self) -> Iterator[list[Planned]]:
        """Return a track for each lifecycle; if shuffled, one for each request, in random order."""
        if not self._chances.shuffle:
            return self._lives()
        tracks = [[request] for life in self._lives() for request in life]
        self._random.shuffle(tracks)
        return iter(tracks)

    def _lives(self) -> Iterator[list[Planned]]:
        for number in range(self.count):
            for scenario in self.scenarios:
                yield list(self._life(scenario, number))

    def _life(self, scenario: Scenario, number: int) -> Iterator[Planned]:
        for message in self._write(scenario, Fresh(self._random)):
            takers = _takers(self.adapters, message.event)
            adapter = takers[number % len(takers)]
            fate: Fate = "sound"
            if self._random.random() < self._chances.corrupt:
                fate = self._random.choice(("cut", "forged"))
            yield Planned(adapter, message, fate, copy=False)
            # The copy follows at once: a dispute sent again after its resolution would be a second dispute.
            if self._random.random() < self._chances.duplicates:
                yield Planned(adapter, message, fate, copy=True)


def check_playable(scenario: Scenario, adapters: Sequence[AnyAdapter]) -> None:
    """Check that there is a source for each request of a scenario. Raises: CommandFailed."""
    for step in scenario.steps:
        _takers(adapters, step.event)


def _takers(adapters: Sequence[AnyAdapter], event: str) -> list[AnyAdapter]:
    """Return the sources that take this event: those bound to it, else those without a binding.

    Raises: CommandFailed.
    """
    bound, free = [], []
    for adapter in adapters:
        match adapter.bound(event):
            case None:
                free.append(adapter)
            case True:
                bound.append(adapter)
    if not (bound or free):
        names = ", ".join(adapter.settings.name for adapter in adapters)
        raise CommandFailed(
            f"no source takes {event!r}: each of {names} is bound to another notification"
            " (choose another --scenario, or configure a source for it)"
        )
    return bound or free
