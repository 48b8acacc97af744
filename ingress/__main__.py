"""`python -m ingress`: one ingress process. `headrace ingress` starts it, and restarts it when it dies."""

import argparse
import signal
import socket
import sys
from pathlib import Path

import uvloop

from ingress.app import create_app
from ingress.server.gate import Gate
from ingress.server.serve import serve
from shared.config.reload import ConfigFile
from shared.errors import ConfigError, StoreUnfit
from shared.process import logs
from shared.process.supervisor import EXIT_CONFIG
from shared.store.fitness import refuse_unfit


def main() -> int:
    """Serve until told to stop. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ingress")
    parser.add_argument("--config", required=True)
    parser.add_argument("--may-be-empty", action="store_true", help="it has neither sources nor targets yet")
    parser.add_argument("--fd", type=int, required=True, help="the listening socket, inherited")
    options = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a handler: by default it ends the process
    try:
        file = ConfigFile(Path(options.config), may_be_empty=options.may_be_empty)
        logs.configure("ingress")
        refuse_unfit(file.config)
    except (ConfigError, StoreUnfit) as error:
        print(f"headrace: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    gate = Gate(file.config.ingress)
    app = create_app(file, gate=gate)
    started = uvloop.run(serve(app, gate, socket.socket(fileno=options.fd)))
    return 0 if started else 1


if __name__ == "__main__":
    sys.exit(main())
