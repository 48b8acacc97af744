"""The providers that Headrace knows. Each is a folder of this package, and needs no entry in a list.

A folder's package names its `ADAPTER`; its module `simulation` names a `SIMULATION`; `samples/` has bodies.
"""

import pkgutil
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from shared.providers.base import Adapter
from shared.providers.scenarios import Simulation
from shared.settings import SourceSettings


def _find() -> dict[str, type[Adapter[Any]]]:
    found: dict[str, type[Adapter[Any]]] = {}
    for module in pkgutil.iter_modules(__path__):
        adapter: type[Adapter[Any]] | None = getattr(
            import_module(f"{__name__}.{module.name}"), "ADAPTER", None
        )
        if adapter is None:
            continue
        if adapter.provider in found:
            raise TypeError(f"two modules of {__name__} name the provider {adapter.provider!r}")
        found[adapter.provider] = adapter
    return found


ADAPTERS: dict[str, type[Adapter[Any]]] = _find()
"""Provider name, as a source's `provider` key gives it → adapter class."""


def make_adapter(settings: SourceSettings) -> Adapter[Any]:
    """Return the adapter of a source.

    `settings` is an instance of that adapter's own `Settings`, and `settings.provider` a key of `ADAPTERS`.
    """
    return ADAPTERS[settings.provider](settings)


@cache
def simulations() -> dict[str, Simulation]:
    """Return every provider's simulation, by the provider's name."""
    return {
        name: import_module(f"{adapter.__module__}.simulation").SIMULATION
        for name, adapter in ADAPTERS.items()
    }


@cache
def samples(provider: str) -> dict[str, bytes]:
    """Return a provider's sample bodies by their names, which are the files' names without `.json`."""
    folder = files(ADAPTERS[provider].__module__) / "samples"
    return {file.name.removesuffix(".json"): file.read_bytes() for file in folder.iterdir()}
