"""`python -m workers`: one worker process. `headrace worker` starts it, and again when it dies."""

import argparse
import os
import signal
import sys
from pathlib import Path

from shared.config.reload import ConfigFile
from shared.errors import ConfigError, StoreUnfit
from shared.process import logs
from shared.process.supervisor import EXIT_CONFIG
from shared.store.fitness import refuse_unfit
from workers.app import run


def main() -> int:
    """Work until told to stop. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers")
    parser.add_argument("--config", required=True)
    parser.add_argument("--may-be-empty", action="store_true", help="it has neither sources nor targets yet")
    options = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a handler: it would end the process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until Celery has its own
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a process that stands still (workers.watchdog)
    # Celery writes to this file descriptor itself, in plain text, what it does on a signal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        file = ConfigFile(Path(options.config), may_be_empty=options.may_be_empty)
        logs.configure("worker")
        refuse_unfit(file.config)
    except (ConfigError, StoreUnfit) as error:
        print(f"headrace: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    return run(file)


if __name__ == "__main__":
    sys.exit(main())
