"""How a worker process begins and ends, whether `headrace worker` runs it or `celery -A workers worker`.

All of it hangs on Celery's signals and a step of its start, which only a worker has: `celery inspect` and the
like do none of this.
"""

import logging
import os
import signal
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

import structlog
from celery import Celery, bootsteps, concurrency, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from shared.config.reload import ConfigFile
from shared.errors import ConfigError, StoreUnfit
from shared.process import logs
from shared.process.background import end_process, stacks
from shared.store.fitness import refuse_unfit
from workers.refusal import end_refused
from workers.runtime import Runtime

log = structlog.get_logger()

POOLS = ("solo", "threads")
"""Celery's pools in which a task may run that hands its doorbell to the loop: they do not fork."""

_STOPPING = (signal.SIGTERM, signal.SIGINT)

_NOT_TAKEN = {
    "queues": "--queues: a worker takes doorbells from one queue",
    "exclude_queues": "--exclude-queues: a worker takes doorbells from one queue",
    "autoscale": "--autoscale: a task ends at once, so one thread is enough",
    "beat": "--beat: nothing is scheduled, since every worker sweeps",
}

_QUOTING = ("celery.worker.pidbox", "kombu.pidbox", "kombu.transport.redis")
"""Loggers that quote what anybody may send by Redis to all workers."""


def connect(app: Celery, file: ConfigFile, runtime: Runtime) -> None:
    """Have Celery's signals prepare the process and start and close `runtime`."""

    def celeryd_init(options: Mapping[str, Any], **_: object) -> None:
        prepare(app, file, runtime, options)

    # Weak references to these closures would not hold.
    signals.celeryd_init.connect(celeryd_init, weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # it is set up: Celery leaves it alone
    signals.worker_ready.connect(lambda **_: _handle_signals(runtime), weak=False)
    signals.worker_shutdown.connect(lambda **_: runtime.close(), weak=False)

    class StartRuntime(bootsteps.StartStopStep):  # type: ignore[misc]
        """Starts the runtime once Celery has its handlers of signals, and before it takes doorbells."""

        def start(self, parent: object) -> None:
            _start(runtime)

    app.steps["worker"].add(StartRuntime)


def prepare(app: Celery, file: ConfigFile, runtime: Runtime, options: Mapping[str, Any]) -> None:
    """Set the process up, or end it if its options, its configuration or Redis do not do."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a handler: it would end the process
    for number in _STOPPING:
        signal.signal(number, _end)  # until Celery has its own
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a process that stands still (workers.watchdog)
    # Celery writes to this file descriptor itself, in plain text: its banner, and what it does on a signal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        _refuse(options)
        logs.configure("worker")
        refuse_unfit(file.config)
    except (ConfigError, StoreUnfit) as error:
        end_refused(error)
    app.log.redirect_stdouts("WARNING")  # what Celery prints is logged
    for name in _QUOTING:
        logging.getLogger(name).addFilter(_without_arguments)
    # Celery warns of root on every start; in a container that is the usual case, and not its business.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    log.info("worker starts", targets=len(file.config.targets), sources=len(file.config.sources))


def _refuse(options: Mapping[str, Any]) -> None:
    """Raises: ConfigError if a worker cannot work with these options of Celery's command line."""
    for option, why in _NOT_TAKEN.items():
        if options.get(option):
            raise ConfigError("", f"a worker does not take {why}")
    pool = concurrency.get_implementation(options.get("pool") or POOLS[0])
    if pool not in [concurrency.get_implementation(name) for name in POOLS]:
        raise ConfigError("", f"a worker runs in Celery's pools {' and '.join(POOLS)}, and in no other")


def _without_arguments(record: logging.LogRecord) -> bool:
    """Keep what a library says, and drop what it quotes: it is not ours."""
    record.args, record.exc_info = (), None
    return True


def _start(runtime: Runtime) -> None:
    try:
        runtime.start()
    except Exception as error:  # Celery would stop, and wait for what has not begun
        end_process(f"the worker's runtime did not start: {type(error).__name__}")


def _end(*_: object) -> NoReturn:
    """End the process, told to stop before anything has begun.

    An exception would not do: raised amid an import, Python may make another of it.
    """
    logs.flush()
    os._exit(0)


def _handle_signals(runtime: Runtime) -> None:
    """Replace two of Celery's handlers: on SIGHUP it executes the process anew and drops what it has in hand,
    on SIGUSR1 it prints where each thread is.
    """
    signal.signal(signal.SIGHUP, lambda *_: runtime.reload_soon())
    signal.signal(signal.SIGUSR1, lambda *_: log.warning("where each thread is", stack=stacks()))
    runtime.reload_soon()  # for a signal that came while there was no handler yet
    # Celery warns, whenever a connection is lost, of a default to come for what the application sets.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    log.info("worker ready")
