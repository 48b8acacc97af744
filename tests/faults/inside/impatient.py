"""Shortens how long what a dead worker held lies before it is taken over, so that tests need not wait."""

from typing import Any

from patching import after  # type: ignore[import-not-found]


def _inbox(module: Any) -> None:
    module.LEFT_BEHIND_MS = 2000


def _due(module: Any) -> None:
    module.LEASE_BEYOND_TIMEOUT_MS = 1000


def _admission(module: Any) -> None:
    module.TURN_MS = 2000


after("shared.store.admission", _admission)
after("shared.store.inbox", _inbox)
after("shared.store.due", _due)
