"""Doorbells: the Celery messages that say "there is work at X" and carry none.

A doorbell may be lost, doubled or late without harm: records are the truth, and a sweep rings again.
The envelope is written here because Celery has no asyncio producer; a contract test compares it with a
real publish.
"""

from base64 import b64encode
from functools import lru_cache
from os import urandom

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
        """What tells this doorbell from others, in Redis."""
        return f"{self.task}:{self.place}"


def envelope(bell: Doorbell) -> bytes:
    """Return the message as Kombu's Redis transport and Celery's task protocol 2 want it."""
    message, id, tag = _template(bell)
    return message.replace(id, _unique()).replace(tag, _unique())


def _unique() -> bytes:
    return urandom(16).hex().encode()


@lru_cache(maxsize=1024)
def _template(bell: Doorbell) -> tuple[bytes, bytes, bytes]:
    """Return a doorbell's message, and the two pieces in it that no two messages share: its id and its tag.

    There is one for each commit of requests, and only these differ.
    """
    id, tag = _unique().decode(), _unique().decode()
    body = msgspec.json.encode(
        [[bell.place], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    )
    message = msgspec.json.encode(
        {
            "body": b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": bell.task,
                "id": id,
                "root_id": id,
                "parent_id": None,
                "group": None,
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": tag,
            },
        }
    )
    return message, id.encode(), tag.encode()
