"""Traces of requests and generations, off unless OTEL_TRACES_EXPORTER switches them on.

No SDK of OpenTelemetry is imported here: `otel` does that, where traces are on. There is a span for
each request and for each generation, and none for a token.
"""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Protocol

from chat_api.addresses import http_address
from chat_api.settings import Settings, SettingsError

Attributes = Mapping[str, str | int | float | list[str] | None]
"""Attributes of a span, without None. Never a text of a message, a title, a token or a key."""


class Span(Protocol):
    """One operation in a trace."""

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers that continue the trace in another service (W3C Trace Context)."""

    def note(self, attributes: Attributes, *, error: str | None = None) -> None:
        """Add attributes, and our code of a failure."""

    def rename(self, name: str) -> None:
        """Replace the name."""

    def end(self) -> None:
        """End it now. Calling it again has no effect."""


class Tracing(Protocol):
    """Begins spans."""

    def request(
        self, method: str, trace_id: str, traceparent: str | None, tracestate: str | None
    ) -> Span:
        """Return the span of a request, within the trace of its caller if that sent one."""

    def generation(
        self, name: str, message_id: str, attempt: int, trace_id: str, attributes: Attributes
    ) -> Span:
        """Return the span of an attempt at a generation.

        It is a part of the request whose task this is. Without one (the generation was taken over)
        it continues the trace of `trace_id`, and links to the attempt before.
        """

    def discard(self) -> None:
        """End it, where no span was begun."""

    async def close(self) -> None:
        """Send the remaining spans, within seconds."""


span_var: ContextVar[Span | None] = ContextVar("span", default=None)
"""The current span."""


def outgoing_headers() -> list[tuple[str, str]]:
    """Return the headers for a request to another service; none where traces are off."""
    span = span_var.get()
    return [] if span is None else span.headers()


def open_tracing(settings: Settings) -> Tracing | None:
    """Return the object that begins spans, None if traces are off.

    Raise SettingsError, with the reason, if they are on but impossible.
    """
    if settings.otel_traces_exporter == "none":
        return None
    _check_packages()
    _check_variables()
    from chat_api.tracing.otel import Otel

    try:
        return Otel()
    except ValueError as error:  # of the SDK, about a number; it quotes no value
        raise SettingsError(f"OTEL_*: {error}") from None


def check(settings: Settings) -> None:
    """Raise SettingsError as `open_tracing` does."""
    tracing = open_tracing(settings)
    if tracing is not None:
        tracing.discard()


def _check_packages() -> None:
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = find_spec(package)
        except ModuleNotFoundError:  # of the package around it
            found = None
        if found is None:
            raise SettingsError(
                "OTEL_TRACES_EXPORTER=otlp needs packages that are not installed: "
                "`pip install 'samosachaat-chat-api[otel]'`."
            )


def _check_variables() -> None:
    """Refuse values that the SDK would silently ignore: no trace would arrive."""
    for ending in ("PROTOCOL", "ENDPOINT"):
        names = (f"OTEL_EXPORTER_OTLP_TRACES_{ending}", f"OTEL_EXPORTER_OTLP_{ending}")
        name = next((name for name in names if os.environ.get(name)), None)
        if name is None:
            continue
        value = os.environ[name]
        if ending == "PROTOCOL":
            if value != "http/protobuf":
                raise SettingsError(f"{name}: only http/protobuf can be used.")
            continue
        try:
            http_address(value, with_query=True)
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None
