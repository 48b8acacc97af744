"""The start and the end of a worker process, whether `headrace worker` runs it or `celery -A workers worker`.

It uses Celery's signals and a step of its start that only workers have, so `celery inspect` and the like do
none of this.
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
"""The pools of Celery that do not fork: in these, a task can pass its doorbell to the loop."""

_STOPPING = (signal.SIGTERM, signal.SIGINT)

_NOT_TAKEN = {
    "queues": "--queues: a worker takes doorbells from one queue",
    "exclude_queues": "--exclude-queues: a worker takes doorbells from one queue",
    "autoscale": "--autoscale: a task ends at once, so one thread is enough",
    "beat": "--beat: nothing is scheduled, since every worker sweeps",
}

_QUOTING = ("celery.worker.pidbox", "kombu.pidbox", "kombu.transport.redis")
"""Loggers that quote messages which anyone with access to Redis may send to all workers."""


def connect(app: Celery, file: ConfigFile, runtime: Runtime) -> None:
    """Connect Celery's signals, so that they prepare the process, and start and close `runtime`."""

    def celeryd_init(options: Mapping[str, Any], **_: object) -> None:
        prepare(app, file, runtime, options)

    # Celery would keep only weak references to these closures.
    signals.celeryd_init.connect(celeryd_init, weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # logging is set up: Celery leaves it alone
    signals.worker_ready.connect(lambda **_: _handle_signals(runtime), weak=False)
    signals.worker_shutdown.connect(lambda **_: runtime.close(), weak=False)

    class StartRuntime(bootsteps.StartStopStep):  # type: ignore[misc]
        """Starts the runtime after Celery has set its signal handlers, and before it takes doorbells."""

        def start(self, parent: object) -> None:
            _start(runtime)

    app.steps["worker"].add(StartRuntime)


def prepare(app: Celery, file: ConfigFile, runtime: Runtime, options: Mapping[str, Any]) -> None:
    """Set the process up, or end it if its options, its configuration or Redis cannot be used."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a handler: by default it ends the process
    for number in _STOPPING:
        signal.signal(number, _end)  # until Celery has its own
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a process whose loop stands still (workers.watchdog)
    # Celery writes plain text to this file descriptor: its banner, and what it does on a signal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        _refuse(options)
        logs.configure("worker")
        refuse_unfit(file.config)
    except (ConfigError, StoreUnfit) as error:
        end_refused(error)
    app.log.redirect_stdouts("WARNING")  # what Celery prints becomes a log line
    for name in _QUOTING:
        logging.getLogger(name).addFilter(_without_arguments)
    # Celery warns of root at every start; in a container root is usual.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    log.info("worker starts", targets=len(file.config.targets), sources=len(file.config.sources))


def _refuse(options: Mapping[str, Any]) -> None:
    """Refuse options of Celery's command line that a worker cannot work with. Raises: ConfigError."""
    for option, why in _NOT_TAKEN.items():
        if options.get(option):
            raise ConfigError("", f"a worker does not take {why}")
    pool = concurrency.get_implementation(options.get("pool") or POOLS[0])
    if pool not in [concurrency.get_implementation(name) for name in POOLS]:
        raise ConfigError("", f"a worker runs in Celery's pools {' and '.join(POOLS)}, and in no other")


def _without_arguments(record: logging.LogRecord) -> bool:
    """Drop the arguments of a library's log record: they quote messages that are not ours."""
    record.args, record.exc_info = (), None
    return True


def _start(runtime: Runtime) -> None:
    try:
        runtime.start()
    except Exception as error:  # Celery would stop, and wait for what has not begun
        end_process(f"the worker's runtime did not start: {type(error).__name__}")


def _end(*_: object) -> NoReturn:
    """End a process that was told to stop before it began.

    An exception would not do: if it is raised during an import, Python may turn it into another one.
    """
    logs.flush()
    os._exit(0)


def _handle_signals(runtime: Runtime) -> None:
    """Replace two of Celery's handlers. On SIGHUP, Celery would restart the process and drop its work; on
    SIGUSR1, it would print the threads' stacks with their values.
    """
    signal.signal(signal.SIGHUP, lambda *_: runtime.reload_soon())
    signal.signal(signal.SIGUSR1, lambda *_: log.warning("where each thread is", stack=stacks()))
    runtime.reload_soon()  # a signal may have come while there was no handler
    # Celery warns, whenever a connection is lost, of a default to come for what the application sets.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    log.info("worker ready")
