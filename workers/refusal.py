"""Ends a worker that must not work, with the code that tells a supervisor that no restart helps."""

import os
import sys
from typing import NoReturn

from shared.errors import HeadraceError
from shared.process import logs
from shared.process.supervisor import EXIT_CONFIG


def end_refused(error: HeadraceError) -> NoReturn:
    """End this process at once, with one line. For any thread."""
    print(f"headrace: {error}", file=sys.stderr, flush=True)  # noqa: T201
    logs.flush()
    os._exit(EXIT_CONFIG)
