"""An OpenTelemetry collector of a few lines: it takes traces by OTLP over HTTP."""

import threading
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from tests.support.gates import Gate
from tests.support.wire import Wire, WireRequest, WireServer


@dataclass(frozen=True)
class Received:
    """A span as it arrived."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    links: list[tuple[str, str]]
    attributes: dict[str, Any]
    is_error: bool
    seconds: float


class Collector(WireServer):
    """Keeps the spans, and the bytes in which they came."""

    name = "collector"

    def __init__(self) -> None:
        super().__init__()
        self.raw = b""
        self.resources: list[dict[str, Any]] = []
        self.status = 200
        self.gate: Gate | None = None
        self._spans: list[Received] = []
        self._lock = threading.Lock()

    @property
    def spans(self) -> list[Received]:
        """What has arrived so far."""
        with self._lock:
            return list(self._spans)

    def named(self, name: str) -> list[Received]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    async def answer(self, request: WireRequest, wire: Wire) -> None:
        """Take one export."""
        if self.gate is not None:
            await self.gate.wait(60)
        if self.status == 200 and request.path == "/v1/traces":
            self._take(request.body)
        body = ExportTraceServiceResponse().SerializeToString()
        await wire.respond(self.status, body, {"content-type": "application/x-protobuf"})

    def _take(self, body: bytes) -> None:
        message = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.raw += body
            for of_resource in message.resource_spans:
                self.resources.append(_values(of_resource.resource.attributes))
                for of_scope in of_resource.scope_spans:
                    self._spans += map(_received, of_scope.spans)


def _received(span: Any) -> Received:
    return Received(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        attributes=_values(span.attributes),
        is_error=span.status.code == 2,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
