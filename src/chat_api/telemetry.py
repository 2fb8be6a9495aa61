"""Logs, metrics and the trace id of a request.

A log line is one JSON object on stdout, in ASCII: `event`, `level`, `timestamp`, `trace_id` and
`user_id` of the current request, and the event's own fields. Contents, titles, tokens and keys are
never logged; neither is text that a client or another service sent.
"""

import json
import logging
import os
import re
import select
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from secrets import token_hex
from typing import Any

import orjson
import structlog
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from structlog.typing import EventDict, WrappedLogger

trace_id_var: ContextVar[str] = ContextVar("trace_id", default="")
user_id_var: ContextVar[str] = ContextVar("user_id", default="")

log: structlog.stdlib.BoundLogger = structlog.get_logger("chat_api")

_TRACE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# W3C Trace Context, sections 3.2 and 4: version, trace id, parent id, flags; ids are not all zeros.
# Only versions after 00 may add fields.
_TRACEPARENT = re.compile(
    r"(?!ff)(?!00.{53}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


def trace_id_of(x_trace_id: str | None, traceparent: str | None) -> str:
    """Return the trace id of a request's headers where one is well-formed, else a new one."""
    if x_trace_id and _TRACE_ID.fullmatch(x_trace_id):
        return x_trace_id
    if traceparent and (found := _TRACEPARENT.fullmatch(traceparent)):
        return found[1]
    return token_hex(16)


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if trace_id := trace_id_var.get():
        event.setdefault("trace_id", trace_id)
    if user_id := user_id_var.get():
        event.setdefault("user_id", user_id)
    return event


def _name_the_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace an exception by its name and where it happened.

    Its message is left out, since a driver may quote values in it.
    """
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = type(error).__name__
        frames: list[str] = []
        traceback = error.__traceback__
        while traceback is not None:
            code = traceback.tb_frame.f_code
            frames.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
            traceback = traceback.tb_next
        event["stack"] = frames[-12:]
    return event


def _without_reports(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Shorten reports that quote exceptions and arguments to what kind of report they are.

    asyncio says that in the first line. uvicorn logs a failed start or shutdown as a traceback,
    whose last line begins with the exception's name.
    """
    text = str(event["event"])
    if event.get("logger") == "asyncio":
        event["event"] = text.partition("\n")[0]
    elif text.startswith("Traceback "):
        event["event"] = "application_failed"
        event["exception"] = text.rstrip().rpartition("\n")[2].partition(":")[0]
    return event


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        line = orjson.dumps(event, default=str).decode()
    except TypeError:  # a lone surrogate, a huge integer, a key that is not a string
        return json.dumps(event, default=str, skipkeys=True)
    # Escaped, since stdout may have any encoding.
    return line if line.isascii() else json.dumps(event, default=str)


class LineHandler(logging.Handler):
    """Writes each line to a file at once, and never waits.

    A reader of stdout that stops reading blocks a write forever, and with it the event loop. A line
    that cannot be written is lost and counted; a later line reports it.
    """

    # A pipe that can be written at all takes so many bytes without waiting (POSIX).
    _piece_bytes = select.PIPE_BUF

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lost = 0
        self._is_torn = False  # the last line lacks its end

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # a line must not fail what it reports on
            self.handleError(record)
            return
        if self._lost:
            lost = {"event": "log_lines_lost", "level": "warning", "lines": self._lost}
            line = f"{json.dumps(lost)}\n{line}"
        if self._write(f"{line}\n".encode("ascii", "backslashreplace")):
            self._lost = 0
        else:
            self._lost += 1
            LOST_LOG_LINES.inc()

    def _write(self, data: bytes) -> bool:
        """Return whether all of it was written."""
        if self._is_torn:
            data = b"\n" + data
        at = 0
        try:
            while at < len(data) and self._poll.poll(0):
                at += os.write(self._fd, data[at : at + self._piece_bytes])
        except OSError:  # the reader has ended, or the disk is full
            pass
        if at:
            self._is_torn = at < len(data)
        return at == len(data)


def configure_logging(level: str) -> None:
    """Write every log line, this service's own and the libraries', to stdout as JSON."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request,
        _name_the_exception,
        _without_reports,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = LineHandler(sys.stdout.fileno())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    _quieten(("uvicorn.access",), logging.CRITICAL)
    _quieten(("alembic", "asyncio", "aiohttp"), logging.WARNING)


def _quieten(names: Iterable[str], level: int) -> None:
    for name in names:
        logging.getLogger(name).setLevel(level)


disable_created_metrics()  # type: ignore[no-untyped-call]

REQUESTS = Counter("chat_api_requests_total", "Requests answered", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "chat_api_request_seconds",
    "Time from a request to the start of its response",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
OPEN_CONNECTIONS = Gauge(
    "chat_api_open_connections", "Connections of clients open now", multiprocess_mode="livesum"
)
OPEN_STREAMS = Gauge("chat_api_open_streams", "Event streams open now", multiprocess_mode="livesum")
RUNNING_GENERATIONS = Gauge(
    "chat_api_running_generations", "Generations running now", multiprocess_mode="livesum"
)
GENERATIONS = Counter("chat_api_generations_total", "Generations that ended, by status", ["status"])
TOKENS = Counter("chat_api_tokens_total", "Tokens of saved generations, counted at their end")
FIRST_TOKEN_SECONDS = Histogram(
    "chat_api_first_token_seconds",
    "Time from a message's acceptance to its generation's first token",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
AUTH_VALIDATIONS = Counter(
    "chat_api_auth_validations_total", "Validations of tokens, by outcome", ["outcome"]
)
AUTH_KEY_FETCHES = Counter(
    "chat_api_auth_key_fetches_total",
    "Fetches of the OpenID provider's keys, by outcome",
    ["outcome"],
)
REFUSALS = Counter(
    "chat_api_refusals_total",
    "Requests and connections refused as over a limit or malformed, by code",
    ["code"],
)
ENGINE_FAILURES = Counter(
    "chat_api_engine_failures_total", "Failed engine calls, by code", ["code"]
)
ENGINE_REQUESTS = Counter(
    "chat_api_engine_requests_total",
    "Requests for an answer to an engine, by outcome (`ok` or our name for the failure)",
    ["engine", "outcome"],
)
ENGINE_RETRIES = Counter(
    "chat_api_engine_retries_total",
    "Requests that were made again before a first event",
    ["engine"],
)
ENGINE_FALLBACKS = Counter(
    "chat_api_engine_fallbacks_total", "Answers that went to an engine as a fallback", ["engine"]
)
ENGINE_FIRST_EVENT_SECONDS = Histogram(
    "chat_api_engine_first_event_seconds",
    "Time from a request to an engine to its first event",
    ["engine"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
ENGINE_CIRCUIT_OPEN = Gauge(
    "chat_api_engine_circuit_open",
    "Whether an engine is not asked because it failed repeatedly",
    ["engine"],
    multiprocess_mode="max",
)
DATABASE_ERRORS = Counter(
    "chat_api_database_errors_total", "Statements that failed because of the database"
)
LOST_LOG_LINES = Counter(
    "chat_api_lost_log_lines_total", "Log lines lost because stdout was blocked"
)
EVENT_LOG_ROWS = Counter("chat_api_event_log_rows_total", "Rows written to the event log")
CONTINUED = Counter("chat_api_continued_total", "Answers continued after their process died")
TRACE_EXPORTS = Counter(
    "chat_api_trace_exports_total",
    "Batches of spans sent to the collector, by outcome",
    ["outcome"],
)
TAKEOVERS = Counter(
    "chat_api_takeovers_total", "Generations taken over after their process died or left"
)
