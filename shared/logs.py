"""Logs: one wide line per unit of work; readable on a terminal, JSON elsewhere.

What libraries log through `logging` takes the same road. Payloads, answers, header values and path
tokens are never passed to a logger; `redact` is the net below that rule, not a licence to lean on it.
"""

import asyncio
import atexit
import logging
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import get_ident
from typing import Any, BinaryIO, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

# What must not pass even where a library's message quotes it: our secrets' form, URL userinfo, path tokens.
_SECRETS = re.compile(r"whsec_[A-Za-z0-9+/=]+|(?<=://)[^/@\s]+@|(?<=/webhooks/)([^/\s?\"']+)/[^\s?\"']+")
# Nothing of that is there without one of these, and they are found in no time.
_SIGNS = (b"whsec_", b"://", b"/webhooks/")

# Without locals: they hold payloads and secrets.
_EXCEPTIONS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_encode_lines = msgspec.json.Encoder(enc_hook=repr).encode_lines


def redact(text: str) -> str:
    """Return `text` with signing secrets, URL credentials and path tokens masked."""
    return _SECRETS.sub(lambda match: f"{match[1]}/***" if match[1] else "***", text)


def _redacted(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
    return event


class _JsonLines:
    """Writes events as JSON: what one turn of an event loop logs is encoded and written at once.

    A line made and written by itself took a fifth of all that ingress does for a request. A warning goes at
    once, with all before it: it may be the last that this process says.
    """

    def __init__(self, process: str, stream: BinaryIO) -> None:
        self._process = process
        self._pid = os.getpid()
        self._stream = stream
        self._waiting: list[EventDict] = []
        self._thread = 0  # in whose loop it waits

    def log(self, level: str, event: EventDict) -> None:
        """Write an event: at the end of this turn of the loop, or now."""
        event["level"] = level
        if level in {"info", "debug"}:
            # To ask for the loop is a system call.
            if self._waiting and self._thread == get_ident():
                self._waiting.append(event)
                return
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                pass  # a thread without a loop: now
            else:
                if not self._waiting:
                    self._thread = get_ident()
                    loop.call_soon(self.flush)
                self._waiting.append(event)
                return
        else:
            self.flush()
            if event.get("exc_info"):
                event = dict(_EXCEPTIONS(None, level, event))
        self._write([event])

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._write(waiting)

    def _write(self, events: Sequence[EventDict]) -> None:
        self._stream.write(self.render(events))
        self._stream.flush()

    def render(self, events: Sequence[EventDict]) -> bytes:
        """Return a line for each event, with what every line says."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        for event in events:
            event["timestamp"] = now
            event["process"] = self._process
            event["pid"] = self._pid
        lines = _encode_lines(events)
        if any(sign in lines for sign in _SIGNS):
            lines = _encode_lines([_redacted(None, "", event) for event in events])
        return lines


def _json_logger(level: int) -> Any:
    """Return structlog's logger of a level, without its chain of processors: `_JsonLines` does it all."""

    class JsonLogger(structlog.make_filtering_bound_logger(level)):  # type: ignore[misc]
        def _proxy_to_logger(self, method_name: str, event: str | None = None, **fields: Any) -> None:
            self._logger.log(method_name, {"event": event, **fields})

        if level <= logging.INFO:
            # The one that is called for every unit of work, without structlog's steps in between.
            def info(self, event: str | None = None, **fields: Any) -> None:
                self._logger.log("info", {"event": event, **fields})

    return JsonLogger


def configure(process: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (standard error), with the process's kind on it.

    The level is `$HEADRACE_LOG_LEVEL`, else INFO; `$HEADRACE_LOG_FORMAT` may force `json` or `text`.
    """
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping().get(
        os.environ.get("HEADRACE_LOG_LEVEL", "INFO").upper(), logging.INFO
    )
    text = os.environ.get("HEADRACE_LOG_FORMAT", "text" if stream.isatty() else "json") == "text"
    # What libraries log comes seldom: it goes through processors, which end in the same lines.
    foreign: list[Processor] = [structlog.processors.add_log_level, structlog.stdlib.add_logger_name]
    if text:
        processors: list[Processor] = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redacted,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
        structlog.configure(
            processors=[structlog.processors.add_log_level, _with_process(process), *processors],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.WriteLoggerFactory(stream),
            cache_logger_on_first_use=True,
        )
    else:
        lines = _JsonLines(process, stream.buffer)
        atexit.register(lines.flush)
        structlog.configure(
            wrapper_class=_json_logger(level),
            logger_factory=lambda *_: lines,
            cache_logger_on_first_use=True,
        )
        processors = [_EXCEPTIONS, lambda _logger, _method, event: lines.render([event])[:-1].decode()]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *processors],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))


def _with_process(process: str) -> Processor:
    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        event["pid"] = os.getpid()
        return event

    return add
