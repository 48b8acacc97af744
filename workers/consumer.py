"""Celery's consumer, made to go on if something in the queue is not a doorbell.

Celery prints and drops a message that it can decode but not use; any other ends the worker. A foreign message
must do neither. Its content is never logged, as it is not ours.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker import consumer

log = structlog.get_logger()

ALONE = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
"""Workers do not talk to each other: Redis holds all that they share."""


def make_consumer(drop_queued: Callable[[], str]) -> type[consumer.Consumer]:
    """Return the class for Celery's setting `worker_consumer`.

    `drop_queued` empties the queue, looks at all places that doorbells name, and returns what it dropped, as
    text.
    """

    class Consumer(consumer.Consumer):  # type: ignore[misc]
        """Restarts its connection after an error of any kind."""

        def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **others: Any) -> None:
            super().__init__(*args, worker_options={**(worker_options or {}), **ALONE}, **others)
            self._of_redis = self.connection_errors + self.channel_errors
            # It restarts after these: Kombu raises any error while it decodes a message.
            self.channel_errors += (Exception,)

        def on_connection_error_after_connected(self, exc: Exception) -> None:
            # Kombu counts KeyError among Redis's errors: a message lacks a field.
            if isinstance(exc, KeyError) or not isinstance(exc, self._of_redis) or "WRONGTYPE" in str(exc):
                # The message that could not be read is gone. More of its kind may wait behind it, or the
                # queue is no list: all of it goes, since a lost doorbell costs nothing.
                log.error(
                    "dropped what is no doorbell",
                    error=type(exc).__name__,
                    bytes=_size(exc),
                    queued=drop_queued(),
                )
                exc = ValueError("not a doorbell")  # the original error may quote the message
            super().on_connection_error_after_connected(exc)

        def on_unknown_message(self, body: Any, message: Any) -> None:
            _dropped(message, "no task")

        def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
            _dropped(message, "an unknown task")

        def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
            _dropped(message, "an invalid task")

        def on_decode_error(self, message: Any, exc: Exception) -> None:
            _dropped(message, "not to be decoded")

    return Consumer


def _dropped(message: Any, what: str) -> None:
    body = message.body
    log.error(
        "dropped what is no doorbell", error=what, bytes=len(body) if isinstance(body, str | bytes) else None
    )


def _size(error: Exception) -> int | None:
    """Return the length of the text that could not be decoded, if the error has it."""
    text = getattr(error, "doc", getattr(error, "object", None))
    return len(text) if isinstance(text, str | bytes) else None
