"""Logs: one wide line per unit of work; readable on a terminal, JSON elsewhere.

What libraries log through `logging`, warnings and uncaught exceptions go the same way. Payloads, answers,
header values and path tokens are never passed to a logger. `redact` is a second line of defence, and no
reason to break that rule. Logging never raises, and never waits: see `shared.process.logwriter`.
"""

import atexit
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from shared.errors import ConfigError
from shared.process.logwriter import LogWriter

LEVEL_ENV, FORMAT_ENV = "HEADRACE_LOG_LEVEL", "HEADRACE_LOG_FORMAT"
LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("json", "text")
# How long a process that ends waits for its last lines to be written.
AT_EXIT_S = 1.0

# What is masked even if a library's message quotes it: secrets in our form, URL userinfo, path tokens.
_SECRETS = re.compile(r"whsec_[A-Za-z0-9+/=]+|(?<=://)[^/@\s]+@|(?<=/webhooks/)([^/\s?\"']+)/[^\s?\"']+")

# Tracebacks have no local variables: those hold payloads and secrets.
_exceptions = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_encoder = msgspec.json.Encoder(enc_hook=repr)

log = structlog.get_logger()

_Render = Callable[[str, EventDict], bytes]

_writer: LogWriter | None = None


def redact(text: str) -> str:
    """Return `text` with signing secrets, URL credentials and path tokens masked."""
    return _SECRETS.sub(lambda match: f"{match[1]}/***" if match[1] else "***", text)


def redacted(value: Any) -> Any:
    """Return `value` with every text in it redacted, however deep; other objects become their repr."""
    match value:
        case str():
            return redact(value)
        case bool() | int() | float() | None:
            return value
        case dict():
            return {redact(str(key)): redacted(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [redacted(item) for item in value]
        case _:
            return redact(repr(value))


def configure(process: str, stream: TextIO | None = None) -> None:
    """Write every log line of this process to `stream` (by default standard error), with `process` in it.

    The level is `$HEADRACE_LOG_LEVEL`, else info; `$HEADRACE_LOG_FORMAT` may force `json` or `text`. Call it
    once in a process.

    Raises: ConfigError if one of these has an unknown value.
    """
    global _writer  # noqa: PLW0603 — one log for each process, as in `logging` and structlog
    stream = stream or sys.stderr
    terminal = stream is not None and stream.isatty()
    level = logging.getLevelNamesMapping()[_choice(LEVEL_ENV, LEVELS, "info").upper()]
    text = _choice(FORMAT_ENV, FORMATS, "text" if terminal else "json") == "text"

    said_by_all = {"process": process, "pid": os.getpid()}

    def add_origin(_logger: Any, method: str, event: EventDict) -> EventDict:
        """Add level, time and process.

        Three of structlog's processors do the same at three times the cost.
        """
        event["level"] = "error" if method == "exception" else method
        event["timestamp"] = datetime.now(UTC)
        event.update(said_by_all)
        return event

    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_origin,
        _rendered_by(_text(colors=terminal) if text else _json),
    ]

    def dropped(lines: int) -> bytes:
        event: Any = {"event": "log lines dropped", "lines": lines}
        for processor in processors:
            event = processor(None, "warning", event)
        return bytes(event)

    # A file descriptor of our own: if that of the stream is closed, its number may become another file's.
    _writer = LogWriter(os.dup(stream.fileno()) if stream is not None else -1, dropped)
    lines = _Lines(_writer)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_FromLibraries()]
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_died
    atexit.register(flush)


def flush(within_s: float = AT_EXIT_S) -> None:
    """Wait until all lines are written, at most `within_s`."""
    if _writer is not None:
        _writer.flush(within_s)


def fileno() -> int:
    """Return the file descriptor of the log, else of standard error, for code that must write directly."""
    return 2 if _writer is None else _writer.fd


def _choice(name: str, allowed: Sequence[str], default: str) -> str:
    value = (os.environ.get(name) or default).lower()
    if value not in allowed:
        raise ConfigError(name, f"{value!r} is none of {', '.join(allowed)}")
    return value


class _Lines:
    """structlog's logger: it has a method for each level, which takes a rendered line."""

    def __init__(self, writer: LogWriter) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = writer.put


class _FromLibraries(logging.Handler):
    """Passes the records of libraries on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = next(each for each in _LEVEL_NUMBERS if record.levelno >= each)
            log.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)
        except Exception as error:  # the message does not fit its arguments
            log.error("a log line could not be made", logger=record.name, error=type(error).__name__)


_LEVEL_NUMBERS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, 0)


def _rendered_by(render: _Render) -> Processor:
    """Return the last processor. It never raises: it makes one line of whatever was logged."""

    def rendered(_logger: Any, method: str, event: EventDict) -> bytes:
        try:
            return render(method, event)
        except Exception as error:
            known = {key: event[key] for key in ("timestamp", "process", "pid") if key in event}
            said = {"event": ascii(event.get("event")), "level": method, "not_rendered": type(error).__name__}
            return _json(method, said | known)

    return rendered


def _json(method: str, event: EventDict) -> bytes:
    if "exc_info" in event:
        event = _exceptions(None, method, event)
    line = _encoder.encode(event)
    if (
        b"://" in line or b"/webhooks/" in line or b"whsec_" in line
    ):  # every match of `_SECRETS` has one of these
        line = _encoder.encode(redacted(msgspec.json.decode(line)))
    return line + b"\n"


def _text(*, colors: bool) -> _Render:
    console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)

    def render(method: str, event: EventDict) -> bytes:
        event["timestamp"] = msgspec.to_builtins(event["timestamp"])
        event = redacted(structlog.processors.format_exc_info(None, method, event))
        return f"{console(None, method, event)}\n".encode(errors="backslashreplace")

    return render


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("uncaught exception", exc_info=(kind, error, trace))


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    trace = (args.exc_type, args.exc_value, args.exc_traceback) if args.exc_value else None
    log.error("an exception that could not be raised", where=repr(args.object), exc_info=trace)


def _thread_died(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        trace = (args.exc_type, args.exc_value, args.exc_traceback) if args.exc_value else None
        log.error("a thread died", thread=args.thread.name if args.thread else None, exc_info=trace)
