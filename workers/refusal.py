"""Ends a worker that must not run, with the exit code that tells a supervisor not to restart it."""

import os
import sys
from typing import NoReturn

from shared.errors import HeadraceError
from shared.process import logs
from shared.process.supervisor import EXIT_CONFIG


def end_refused(error: HeadraceError) -> NoReturn:
    """Log one line and end this process at once. Any thread may call it."""
    print(f"headrace: {error}", file=sys.stderr, flush=True)  # noqa: T201
    logs.flush()
    os._exit(EXIT_CONFIG)
