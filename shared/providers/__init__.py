"""The providers that Headrace knows. A new one is a new module here that names its `ADAPTER`."""

import pkgutil
from importlib import import_module
from typing import Any

from shared.providers.base import Adapter
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
