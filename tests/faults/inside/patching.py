"""Changing a module of the product right after it is loaded."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

_patches: dict[str, list[Callable[[Any], None]]] = {}


def after(module: str, patch: Callable[[Any], None]) -> None:
    """Call `patch` with a module once that is loaded."""
    _patches.setdefault(module, []).append(patch)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in _patches:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            for patch in _patches[name]:
                patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
