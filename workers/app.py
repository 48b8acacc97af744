"""The Celery application: its settings, its two tasks, and how it starts and stops the runtime."""

import signal
import warnings
from socket import gethostname
from typing import Any

import structlog
from celery import Celery, Task, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.worker.request import Request

from shared.config.reload import ConfigFile
from shared.process.background import stacks
from shared.store.address import parse_address
from shared.store.doorbell import ADMIT, DELIVER, Doorbell, queue
from shared.store.keys import QUEUE
from workers.consumer import make_consumer
from workers.runtime import Runtime

log = structlog.get_logger()


class DoorbellRequest(Request):  # type: ignore[misc]
    """A doorbell on its way to its task: what a `no_ack` queue gave needs no acknowledgement.

    Celery sends one for each message all the same, and Kombu has Redis forget what it never noted: a round
    trip, and an eighth of what a worker did at 50 events a second.
    """

    def acknowledge(self) -> None:
        """Say nothing to Redis."""
        self.acknowledged = True


class DoorbellTask(Task):  # type: ignore[misc]
    """A task whose messages are doorbells."""

    Request = DoorbellRequest


def create_app(file: ConfigFile, runtime: Runtime) -> Celery:
    """Return the application of one worker process. Nothing connects before the worker starts."""
    redis = file.config.redis
    address = parse_address(redis.url, redis.prefix)
    url, options = address.broker()
    app = Celery("headrace", set_as_current=False)
    app.conf.update(
        broker_url=url,
        broker_use_ssl=address.tls or None,  # Kombu's own default for rediss:// checks no certificate
        broker_transport_options={
            **options,
            "priority_steps": [0],  # one list to wait at, not four
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
        # None: try for ever. The supervisor's restart is for what does not mend by itself.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,
        task_queues=[queue()],
        task_default_queue=QUEUE,
        task_default_exchange="",
        task_default_routing_key=QUEUE,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        accept_content=["json"],
        worker_pool="threads",
        worker_consumer=make_consumer(runtime.drop_queued),
        worker_concurrency=1,  # a task hands its doorbell to the loop, and has ended
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        enable_utc=True,
    )

    # Any arguments, since Celery would log those that do not fit.
    @app.task(name=ADMIT, base=DoorbellTask)
    def admit(*args: object, **others: object) -> None:
        _look_at(runtime, ADMIT, args, others)

    @app.task(name=DELIVER, base=DoorbellTask)
    def deliver(*args: object, **others: object) -> None:
        _look_at(runtime, DELIVER, args, others)

    # `worker_process_init` never fires for threads; weak references to these closures would not hold.
    signals.setup_logging.connect(lambda **_: None, weak=False)  # it is set up: Celery leaves it alone
    signals.worker_init.connect(lambda **_: runtime.start(), weak=False)
    signals.worker_ready.connect(lambda **_: _handle_signals(runtime), weak=False)
    # It warns, whenever a connection is lost, of another default to come for a setting that is made above.
    signals.worker_ready.connect(
        lambda **_: warnings.filterwarnings("ignore", category=CPendingDeprecationWarning), weak=False
    )
    signals.worker_shutdown.connect(lambda **_: runtime.close(), weak=False)
    return app


def _look_at(runtime: Runtime, task: str, args: tuple[object, ...], others: dict[str, object]) -> None:
    match args:
        case (str(place),) if not others:
            runtime.look_at(Doorbell(task, place))
        case _:
            log.error("dropped what is no doorbell", error="wrong arguments", task=task)


def _handle_signals(runtime: Runtime) -> None:
    """Replace two of Celery's handlers: on SIGHUP it executes the process anew and drops what it has in hand,
    on SIGUSR1 it prints where each thread is.
    """
    signal.signal(signal.SIGHUP, lambda *_: runtime.reload_soon())
    signal.signal(signal.SIGUSR1, lambda *_: log.warning("where each thread is", stack=stacks()))
    runtime.reload_soon()  # for a signal that came while there was no handler yet
    log.info("worker ready")


def run(file: ConfigFile) -> int:
    """Run one worker until it is told to stop. Returns the exit code."""
    runtime = Runtime(file)
    app = create_app(file, runtime)
    # What Celery prints is logged.
    app.log.redirect_stdouts("WARNING")
    # Celery warns of root on every start; in a container that is the usual case, and not its business.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    log.info("worker starts", targets=len(file.config.targets), sources=len(file.config.sources))
    try:
        worker: Any = app.Worker(
            hostname=f"headrace@{gethostname()}",
            loglevel="WARNING",
            quiet=True,  # no banner: what it says stands in the configuration
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        worker.start()
    finally:
        # Celery has it closed; but told to stop before Celery listens to that, nobody has.
        runtime.close()
    return int(worker.exitcode or 0)
