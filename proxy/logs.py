"""Logs: one JSON object a line on standard error, in which no value, key or password can appear.

Tracebacks carry file, line and function: never locals, source, or the text of an exception that is not pgseal's
own, since a library's message may quote what it was given. Of a library's log line only the unformatted words
before the first quotation are kept. Fields named like a secret are masked; text is cut. One reason to change:
what a log line may hold.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final, TextIO

import structlog

from proxy.errors import PgsealError

MAX_TEXT: Final = 1000
MAX_FRAMES: Final = 30
_SECRET: Final = re.compile(
    r"password|passwd|secret|private|token|credential|plaintext|dsn|uri|verifier|(?:^|_)(?:key|dek|kek|value|param\w*)$",
    re.I,
)
_DSN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@]*@", re.I)
_QUOTATION: Final = re.compile(r"[<(\[{'\"=%\n]")
MASK: Final = "***"

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
EventDict = MutableMapping[str, Any]


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging alike; once, at start."""
    number = logging.getLevelNamesMapping()[level.upper()]
    out = stream if stream is not None else sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        show_exception,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(sort_keys=True, default=_kind)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(sort_keys=True, default=_kind),
        ],
        foreign_pre_chain=[shorten_foreign, *shared],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


def shorten_foreign(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A library's own log record -> its logger's name and the words before anything it quotes."""
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["event"] = _QUOTATION.split(str(record.msg), maxsplit=1)[0].strip()[:200]
        event["logger"] = record.name
    return event


def show_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """`exc_info` -> `error` and `frames`, as said above."""
    exc_info = event.pop("exc_info", None)
    if isinstance(exc_info, BaseException):
        error: BaseException | None = exc_info
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = sys.exc_info()[1] if exc_info else None
    if error is not None:
        event["error"] = describe(error)
        event["frames"] = [f"{f.filename}:{f.lineno} {f.name}" for f in _frames(error)]
    return event


def describe(error: BaseException) -> str:
    """An exception in words that may be logged: pgseal's own message, else its class only."""
    if isinstance(error, PgsealError):
        return f"{error.sqlstate} {error.message}"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    summary = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), limit=MAX_FRAMES, lookup_lines=False, capture_locals=False
    )
    return list(summary)


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Mask what is named like a secret, at any depth; passwords in connection strings too."""
    for name in list(event):
        event[name] = _redacted(name, event[name], 0)
    return event


def _redacted(name: str, value: Any, depth: int) -> Any:
    if _SECRET.search(name) and not isinstance(value, bool):
        return MASK
    match value:
        case str():
            return _DSN.sub(rf"\g<scheme>{MASK}@", value[:MAX_TEXT])
        case bool() | int() | float() | None:
            return value
        case dict() if depth < 4:
            return {str(key): _redacted(str(key), inner, depth + 1) for key, inner in value.items()}
        case list() | tuple() if depth < 4:
            return [_redacted("", inner, depth + 1) for inner in value[:100]]
        case BaseException():
            return describe(value)
        case _:
            return _kind(value)


def _kind(value: object) -> str:
    """Anything else by its class only: a repr may show what it holds."""
    return f"<{type(value).__name__}>"
