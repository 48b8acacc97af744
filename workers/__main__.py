"""`python -m workers`: one worker process. `headrace worker` starts it, and restarts it when it dies."""

import argparse
import sys
from pathlib import Path
from socket import gethostname

from shared.config.reload import ConfigFile
from shared.errors import ConfigError
from workers.app import create_app
from workers.refusal import end_refused


def main() -> int:
    """Work until told to stop. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers")
    parser.add_argument("--config", required=True)
    parser.add_argument("--name", default="worker", help="its name for `celery inspect`")
    parser.add_argument("--may-be-empty", action="store_true", help="it has neither sources nor targets yet")
    options = parser.parse_args()
    try:
        app = create_app(ConfigFile(Path(options.config), may_be_empty=options.may_be_empty))
    except ConfigError as error:
        end_refused(error)
    worker = app.Worker(hostname=f"{options.name}@{gethostname()}")
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
