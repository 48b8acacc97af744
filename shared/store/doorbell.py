"""Doorbells: Celery messages that say "there is work at X". They carry no work.

A doorbell may be lost, doubled or late without harm: records are the truth, and a sweep rings again. Celery
has no asyncio producer, so it renders each doorbell once in a process; after that the bytes are copied.
"""

from functools import cache
from os import urandom
from typing import Any

import msgspec

from shared.store.keys import QUEUE

ADMIT = "headrace.admit"
DELIVER = "headrace.deliver"


class Doorbell(msgspec.Struct, frozen=True):
    """Which task is wanted, and where: a source's inbox (ADMIT) or a target's due set (DELIVER)."""

    task: str
    place: str

    @property
    def name(self) -> str:
        """The name of this doorbell in Redis."""
        return f"{self.task}:{self.place}"


def envelope(bell: Doorbell) -> bytes:
    """Return the message as Celery stores it in Redis, with an id and a tag that no other message has.

    The first one of a process takes the time that importing Celery takes.
    """
    message, id, tag = _rendered(bell)
    return message.replace(id, _unique()).replace(tag, _unique())


def queue() -> Any:
    """Return Celery's queue of doorbells.

    The anonymous exchange: its binding cannot be lost. no_ack: a lost doorbell is rung again.
    """
    from kombu.entity import Exchange, Queue

    return Queue(QUEUE, Exchange("", type="direct"), routing_key=QUEUE, no_ack=True)


def _unique() -> bytes:
    return urandom(16).hex().encode()


@cache
def _rendered(bell: Doorbell) -> tuple[bytes, bytes, bytes]:
    """Return a doorbell's message, and the two parts that differ in each message: its id and its tag."""
    app, id = _app(), _unique().decode()
    with app.connection_for_write() as connection:
        app.send_task(
            bell.task, args=[bell.place], task_id=id, queue=QUEUE, ignore_result=True, connection=connection
        )
        message = queue()(connection.default_channel).get(no_ack=True)
    return msgspec.json.encode(message.serializable()), id.encode(), message.delivery_tag.encode()


@cache
def _app() -> Any:
    """Return a Celery application whose messages stay in the memory of this process."""
    from celery import Celery

    app = Celery("headrace", broker="memory://", set_as_current=False)
    app.conf.update(task_queues=[queue()], task_default_queue=QUEUE)
    return app
