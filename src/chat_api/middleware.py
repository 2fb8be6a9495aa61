"""Middlewares of all requests, as plain ASGI: none of them buffers a stream."""

import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_api.errors import ApiError, BadRequest, InternalError
from chat_api.telemetry import (
    REQUEST_SECONDS,
    REQUESTS,
    log,
    trace_id_of,
    trace_id_var,
    user_id_var,
)
from chat_api.tracing import Span, Tracing, span_var

# Makes the response for an error at a path.
Refusal = Callable[[str, ApiError], Response]

_CONVERTER = re.compile(r":\w+(?=\})")
_NO_ROUTE = "unknown"
_QUIET = frozenset({"/api/health", "/api/ready", "/metrics"})
_EXPOSED = (
    "Location",
    "Content-Disposition",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "x-request-id",
    "x-trace-id",
    "x-workflow-run-id",
)


def cors_headers(origins: Sequence[str], origin: str | None) -> dict[str, str]:
    """Return the CORS headers of an error that no application answers; `origin` as it was sent."""
    if "*" in origins:
        allowed = {"access-control-allow-origin": "*"}
    elif origin is not None and origin in origins:
        allowed = {"access-control-allow-origin": origin, "vary": "Origin"}
    else:
        return {"vary": "Origin"}
    return {**allowed, "access-control-expose-headers": ", ".join(_EXPOSED)}


class Cors(CORSMiddleware):
    """CORS for the origins of FRONTEND_URL, without credentials: there are no cookies.

    Any request header is allowed, since tracing tools add headers of their own and none of them
    has an effect. A refused preflight has the shape of every other error at its path.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], refusal: Refusal) -> None:
        self._refusal = refusal
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=_EXPOSED,
            max_age=600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                await self._preflight(scope["path"], headers)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _preflight(self, path: str, request_headers: Headers) -> Response:
        response = self.preflight_response(request_headers)
        if response.status_code < 400:
            return response
        refused = self._refusal(path, BadRequest("CORS does not allow this request."))
        for name, value in response.headers.items():
            if name not in {"content-type", "content-length"}:
                refused.headers[name] = value
        return refused


class HeadAsGet:
    """Answers HEAD as GET without the body. An event stream ends with its headers.

    The outermost middleware: the application, its log lines and its metrics see a GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        ended = False

        async def send_head(message: Message) -> None:
            nonlocal ended
            if ended:
                return
            if message["type"] == "http.response.start":
                await send(message)
                kind = Headers(raw=message.get("headers", [])).get("content-type", "")
                ended = kind.startswith("text/event-stream")
            else:
                ended = not message.get("more_body", False)
            if ended:  # from here on `receive` says that the client has gone
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # Without our server's extensions, which write past `send`.
        public = {
            name: value for name, value in scope.items() if not name.startswith("samosachaat.")
        }
        await self._app({**public, "method": "GET", "extensions": {}}, receive, send_head)


class Trace:
    """Gives a request its trace id, counts it, and writes its log line.

    Responses that say nothing about caches get `no-store`: they are one user's, or of one moment.
    The path is logged as its route's template, so that ids stay out of metrics and log lines.
    With `tracing` it has a span, which ends when the application returns: that of an event stream
    ends before the stream does.
    """

    def __init__(self, app: ASGIApp, *, tracing: Tracing | None = None) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope)
        trace_id = trace_id_of(sent.get("x-trace-id"), sent.get("traceparent"))
        trace_id_var.set(trace_id)
        user_id_var.set("")
        # Must be reset: a pipelined request starts with the context of the request before it.
        span = None
        if self._tracing is not None and scope["path"] not in _QUIET:
            span = self._tracing.request(
                scope["method"], trace_id, sent.get("traceparent"), sent.get("tracestate")
            )
        span_var.set(span)
        began = time.perf_counter()
        status = 0

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-trace-id"] = trace_id
                if scope["path"].startswith("/v1/"):
                    headers["x-request-id"] = trace_id  # the name that OpenAI's clients read
                headers.setdefault("cache-control", "no-store")
                counted, timed = _metrics_of(scope["method"], _route(scope), status)
                counted.inc()
                timed.observe(time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, send_traced)
        finally:
            if span is not None:
                _end(span, scope, status)
            if scope["path"] not in _QUIET or status >= 400:
                log.info(
                    "request",
                    method=scope["method"],
                    route=_route(scope),
                    status=status,
                    took_ms=round((time.perf_counter() - began) * 1000, 1),
                    trace_id=trace_id,
                    **({"user_id": scope["user_id"]} if "user_id" in scope else {}),
                )


def _end(span: Span, scope: Scope, status: int) -> None:
    """Log and count the end of a request, without path or query. Status 0: not answered."""
    route = _route(scope)
    if route != _NO_ROUTE:  # else the method may be anything, too
        span.rename(f"{scope['method']} {route}")
    span.note(
        {
            "http.route": route,
            "http.response.status_code": status or None,
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        },
        error=str(status) if status >= 500 else None,
    )
    span.end()


@lru_cache(maxsize=1000)  # routes are few, methods are the client's own words
def _metrics_of(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(method, route)


def _route(scope: Scope) -> str:
    """Return the route's template, or one name for all paths without a route."""
    return _described(getattr(scope.get("route"), "path", _NO_ROUTE))


@lru_cache(maxsize=1000)
def _described(path: str) -> str:
    """Return a route's path as the API's description has it: without converters."""
    return _CONVERTER.sub("", path)


class CatchAll:
    """Turns an unexpected exception into a problem document; only the log has its details."""

    def __init__(self, app: ASGIApp, *, refusal: Refusal) -> None:
        self._app = app
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noticed(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noticed)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            log.error("request_failed", exc_info=True)
            await self._refusal(scope["path"], InternalError())(scope, receive, send)
