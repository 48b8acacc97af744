"""Garbage collection for a long-lived process: it runs seldom, and skips the objects made at the start.

Reference counts free nearly all objects of a request or a delivery. Python's collector searches for cycles
after every 700 new objects, also among those that modules made at the start: that took a tenth of a busy
worker's time.
"""

import gc

AFTER_OBJECTS = 50_000


def settle() -> None:
    """Exempt all present objects from collection, and search for cycles seldom from now on.

    Call it once, after the start.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(AFTER_OBJECTS, 10, 10)
