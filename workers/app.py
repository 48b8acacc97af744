"""The Celery application of one worker process: its settings and its two tasks."""

import structlog
from celery import Celery, Task
from celery.worker.request import Request

from shared.config.reload import ConfigFile
from shared.store.address import parse_address
from shared.store.doorbell import ADMIT, DELIVER, Doorbell, queue
from shared.store.keys import QUEUE
from workers.consumer import make_consumer
from workers.process import connect
from workers.runtime import Runtime

log = structlog.get_logger()


class DoorbellRequest(Request):  # type: ignore[misc]
    """A doorbell on its way to its task. The queue is `no_ack`, so it needs no acknowledgement.

    Celery acknowledges each message all the same, and Kombu then removes from Redis what it never stored: a
    round trip, and an eighth of a worker's work at 50 events a second.
    """

    def acknowledge(self) -> None:
        """Do nothing."""
        self.acknowledged = True


class DoorbellTask(Task):  # type: ignore[misc]
    """A task whose messages are doorbells."""

    Request = DoorbellRequest


def create_app(file: ConfigFile) -> Celery:
    """Return the application. Nothing connects, and no thread runs, before Celery starts a worker with it.

    All that a worker needs is set here, so that Celery's command line needs no option.
    """
    runtime = Runtime(file)
    redis = file.config.redis
    address = parse_address(redis.url, redis.prefix)
    url, options = address.broker()
    app = Celery("headrace", set_as_current=False)
    app.conf.update(
        broker_url=url,
        broker_use_ssl=address.tls or None,  # Kombu's own default for rediss:// checks no certificate
        broker_transport_options={
            **options,
            "priority_steps": [0],  # one list to read, not four
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
        # None: try for ever. A restart by the supervisor would not bring Redis back.
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
        control_exchange=QUEUE,  # other applications on the same Redis have channels of their own
        # A task only passes its doorbell to the loop: waking a thread for it would cost more than the task.
        worker_pool="solo",
        worker_consumer=make_consumer(runtime.drop_queued),
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
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

    connect(app, file, runtime)
    return app


def _look_at(runtime: Runtime, task: str, args: tuple[object, ...], others: dict[str, object]) -> None:
    match args:
        case (str(place),) if not others:
            runtime.look_at(Doorbell(task, place))
        case _:
            log.error("dropped what is no doorbell", error="wrong arguments", task=task)
