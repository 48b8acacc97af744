"""placeholder"""
from typing import Any
def play(*a: Any, **k: Any) -> None: pass
