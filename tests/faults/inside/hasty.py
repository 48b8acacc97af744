"""Shortens how long ingress waits for a request to be complete."""

from typing import Any

from patching import after  # type: ignore[import-not-found]


def _protocol(module: Any) -> None:
    module.HEADERS_S = 3.0
    module.BODY_S = 4.0


after("ingress.protocol", _protocol)
