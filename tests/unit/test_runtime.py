"""What a worker does before its threads run side by side."""

import subprocess
import sys

WATCH_THE_START = """
import os, sys, threading
from workers.runtime import Runtime

def start(thread, real=threading.Thread.start):
    if thread.name != "loop":
        return real(thread)
    print("celery.events.dispatcher" in sys.modules, flush=True)
    os._exit(0)

threading.Thread.start = start
Runtime(None).start()
"""


def test_the_loop_begins_once_all_of_celery_that_it_rings_with_is_imported() -> None:
    """Else it imports that while Celery's own thread does: Python may find the two waiting for each other."""
    done = subprocess.run([sys.executable, "-c", WATCH_THE_START], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
