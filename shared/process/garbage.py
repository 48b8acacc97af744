"""Garbage collection for a process that serves: seldom, and without what was there at its start.

Nearly all that a request or a delivery leaves behind goes by its reference count. Python's collector looks
for cycles after every 700 new objects, and through all that modules made at start: it took a tenth of a
busy worker's time.
"""

import gc

AFTER_OBJECTS = 50_000


def settle() -> None:
    """Set what is there aside for good, and look for cycles seldom from now on. Call once, when started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(AFTER_OBJECTS, 10, 10)
