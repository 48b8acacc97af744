"""The providers' sample events, ready to be sent: with fresh ids, and the present time."""

from random import Random

import msgspec

from shared.providers import samples, simulations
from shared.providers.scenarios import Fresh


class Sample(msgspec.Struct, frozen=True):
    """One sample event of a provider."""

    provider: str
    name: str
    body: bytes


def fresh_samples() -> list[Sample]:
    """Return the samples that the demo plays, each provider's in the order in which it would send them."""
    found = []
    for provider, simulation in simulations().items():
        if simulation.demo is None:
            continue
        bodies, fresh = samples(provider), simulation.demo.fresh(Fresh(Random()))  # noqa: S311 — ids, no secrets
        for name in simulation.demo.samples:
            body = bodies[name]
            for known, new in fresh.items():
                body = body.replace(known.encode(), new.encode())
            found.append(Sample(provider, name, body))
    return found
