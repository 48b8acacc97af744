"""Doorbells: the Celery messages that say "there is work at X" and carry none.

A doorbell may be lost, doubled or late without harm: records are the truth, and a sweep rings again.
The envelope is written here because Celery has no asyncio producer; a contract test compares it with a
real publish.
"""

from base64 import b64encode
from uuid import uuid4

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
    id = str(uuid4())
    body = msgspec.json.encode(
        [[bell.place], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    )
    return msgspec.json.encode(
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
                "delivery_tag": str(uuid4()),
            },
        }
    )
