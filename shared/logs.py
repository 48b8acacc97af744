"""Logs: one wide line per unit of work; readable on a terminal, JSON elsewhere.

What libraries log through `logging` takes the same road. Payloads, answers, header values and path
tokens are never passed to a logger; `redact` is the net below that rule, not a licence to lean on it.
"""

import logging
import os
import re
import sys
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

# What must not pass even where a library's message quotes it: our secrets' form, URL userinfo, path tokens.
_SECRETS = re.compile(r"whsec_[A-Za-z0-9+/=]+|(?<=://)[^/@\s]+@|(?<=/webhooks/)([^/\s?\"']+)/[^\s?\"']+")


def redact(text: str) -> str:
    """Return `text` with signing secrets, URL credentials and path tokens masked."""
    return _SECRETS.sub(lambda match: f"{match[1]}/***" if match[1] else "***", text)


def _redacted(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
    return event


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def configure(process: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (standard error), with the process's kind on it.

    The level is `$HEADRACE_LOG_LEVEL`, else INFO; `$HEADRACE_LOG_FORMAT` may force `json` or `text`.
    """
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping().get(
        os.environ.get("HEADRACE_LOG_LEVEL", "INFO").upper(), logging.INFO
    )
    text = os.environ.get("HEADRACE_LOG_FORMAT", "text" if stream.isatty() else "json") == "text"
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_process(process),
    ]
    rendering: list[Processor] = (
        [_redacted, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if text
        else [
            # Without locals: they hold payloads and secrets.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            _redacted,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    )
    structlog.configure(
        processors=[*common, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
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
