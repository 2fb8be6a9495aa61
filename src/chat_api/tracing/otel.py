"""Spans by OpenTelemetry, sent by OTLP over HTTP; the standard OTEL_* variables configure both."""

import asyncio
import hashlib
import logging
import re
import threading
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chat_api import __version__
from chat_api.telemetry import TRACE_EXPORTS, log
from chat_api.tracing import Attributes, Span, span_var

_SERVICE_NAME = "samosachaat-chat-api"
_TRACE_ID = re.compile("(?!0{32})[0-9a-f]{32}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The part of a process's time to end that is left for sending the last spans.
_CLOSE_SECONDS = 2.0
_W3C = TraceContextTextMapPropagator()


class _Ids(RandomIdGenerator):
    """Makes the ids that are asked for, else random ones."""

    trace_id: int | None = None
    span_id: int | None = None

    def generate_trace_id(self) -> int:
        return self.trace_id or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.span_id or super().generate_span_id()

    def is_trace_id_random(self) -> bool:
        return False


class _CountedExporter(SpanExporter):
    """Counts the batches, and logs a failure without what the collector said."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            TRACE_EXPORTS.labels("ok").inc()
        else:
            TRACE_EXPORTS.labels("failed").inc()
            log.warning("traces_not_exported", spans=len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _OtelSpan:
    """See Span."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    def headers(self) -> list[tuple[str, str]]:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self.span))
        return list(carrier.items())

    def note(self, attributes: Attributes, *, error: str | None = None) -> None:
        self.span.set_attributes(_known(attributes))
        if error is not None:
            self.span.set_attribute("error.type", error)
            self.span.set_status(Status(StatusCode.ERROR))

    def rename(self, name: str) -> None:
        self.span.update_name(name)

    def end(self) -> None:
        if self.span.is_recording():
            self.span.end()


class Otel:
    """See Tracing. Spans are sent by a thread of their own, in batches."""

    def __init__(self) -> None:
        # Its lines quote what the collector says.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=_resource(), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(_CountedExporter(OTLPSpanExporter())))
        self._tracer = self._provider.get_tracer("chat_api", __version__)

    def request(
        self, method: str, trace_id: str, traceparent: str | None, tracestate: str | None
    ) -> Span:
        sent = {"traceparent": traceparent, "tracestate": tracestate}
        carrier = {name: value for name, value in sent.items() if value is not None}
        self._ids.trace_id = _number(trace_id)
        try:
            span = self._tracer.start_span(
                "HTTP",
                context=_W3C.extract(carrier, trace.set_span_in_context(trace.INVALID_SPAN)),
                kind=SpanKind.SERVER,
                attributes={
                    "http.request.method": method if method in _METHODS else "_OTHER",
                    "samosachaat.trace_id": trace_id,
                },
            )
        finally:
            self._ids.trace_id = None
        return _OtelSpan(span)

    def generation(
        self, name: str, message_id: str, attempt: int, trace_id: str, attributes: Attributes
    ) -> Span:
        around = span_var.get()
        parent: trace.Span = trace.INVALID_SPAN
        links = []
        if isinstance(around, _OtelSpan):
            parent = around.span
        elif attempt > 1 and (number := _number(trace_id)) is not None:
            before = SpanContext(number, _span_id(message_id, attempt - 1), is_remote=True)
            links = [Link(before)]
        self._ids.trace_id, self._ids.span_id = _number(trace_id), _span_id(message_id, attempt)
        try:
            span = self._tracer.start_span(
                name,
                context=trace.set_span_in_context(parent),
                kind=SpanKind.CLIENT,
                attributes=_known(attributes),
                links=links,
            )
        finally:
            self._ids.trace_id = self._ids.span_id = None
        return _OtelSpan(span)

    def discard(self) -> None:
        self._provider.shutdown()

    async def close(self) -> None:
        closed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def close() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(closed.set)

        # Not a thread of the loop's own, for which the process would wait.
        threading.Thread(target=close, name="close-traces", daemon=True).start()
        try:
            await asyncio.wait_for(closed.wait(), _CLOSE_SECONDS)
        except TimeoutError:
            log.warning("traces_not_exported")


def _resource() -> Resource:
    """Return what the spans are of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come first."""
    told = Resource.create()
    ours = {"service.version": __version__}
    if str(told.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        ours["service.name"] = _SERVICE_NAME
    return told.merge(Resource(ours))


def _number(trace_id: str) -> int | None:
    """Return a trace id as a number; None for one that is none of W3C Trace Context."""
    return int(trace_id, 16) if _TRACE_ID.fullmatch(trace_id) else None


def _span_id(message_id: str, attempt: int) -> int:
    """Return the id of an attempt's span, which any replica can tell."""
    digest = hashlib.sha256(f"{message_id}:{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def _known(attributes: Attributes) -> dict[str, str | int | float | list[str]]:
    return {name: value for name, value in attributes.items() if value is not None}
