"""What every request passes through, as plain ASGI: nothing here buffers a stream."""

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_api.errors import InternalError, problem
from chat_api.telemetry import (
    REQUEST_SECONDS,
    REQUESTS,
    log,
    trace_id_of,
    trace_id_var,
    user_id_var,
)

_QUIET = frozenset({"/api/health", "/api/ready", "/metrics"})


class Trace:
    """Gives the request its trace id, counts it, and writes its line in the log.

    The path is logged as its route's template: ids in it stay out of metrics and lines.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        trace_id = trace_id_of(headers.get("x-trace-id"), headers.get("traceparent"))
        trace_id_var.set(trace_id)
        user_id_var.set("")
        began = time.perf_counter()
        status = 0

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-trace-id"] = trace_id
                route = _route(scope)
                REQUESTS.labels(scope["method"], route, status).inc()
                REQUEST_SECONDS.labels(scope["method"], route).observe(time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, send_traced)
        finally:
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


def _route(scope: Scope) -> str:
    """The route's template; one name for all paths that are no route's."""
    return str(getattr(scope.get("route"), "path", "unknown"))


class CatchAll:
    """Turns a defect into a problem document that says nothing about it; the log has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
            await problem(InternalError(), trace_id_var.get())(scope, receive, send)
