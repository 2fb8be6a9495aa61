"""Shared parts of the local auth and inference services."""

import argparse
import errno
import hmac
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from chat_api.local.errors import LocalError
from chat_api.shared_keys import keys_of

HOST = "127.0.0.1"
_MAX_BODY_BYTES = 1_000_000
_GRACE_SECONDS = 2


class Refused(Exception):  # an answer, not a fault
    """The request gets this status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


async def refuse(_: Request, refused: Exception) -> JSONResponse:
    """Return the response for Refused, as Starlette's handler."""
    if not isinstance(refused, Refused):
        raise refused
    return JSONResponse({"detail": refused.reason}, refused.status)


def internal_key() -> str:
    """Return INTERNAL_API_KEY: the key that the services share, or several with commas."""
    key = os.environ.get("INTERNAL_API_KEY", "")
    if not key:
        raise LocalError("INTERNAL_API_KEY is not set. Set it to the key that the services share.")
    return key


def require_key(request: Request, keys: str) -> None:
    """Raise Refused (403) unless the request carries the internal key, or one of several."""
    given = request.headers.get("x-internal-api-key", "").encode("latin-1")
    if not any(hmac.compare_digest(given, key.encode()) for key in keys_of(keys) if key):
        raise Refused(403, "X-Internal-API-Key is missing or wrong")


def require_bearer(request: Request, keys: str) -> None:
    """Raise Refused (401) unless the request carries the internal key, or one of several."""
    given = request.headers.get("authorization", "").encode("latin-1")
    if not any(
        hmac.compare_digest(given, b"Bearer " + key.encode()) for key in keys_of(keys) if key
    ):
        raise Refused(401, "the bearer token is missing or wrong")


def require_json(request: Request) -> None:
    """Raise Refused (415) unless the Content-Type is JSON.

    Other pages can send forms and plain text without a preflight, but not JSON.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "send application/json")


def require_origin(request: Request, origins: Sequence[str]) -> None:
    """Raise Refused (403) unless the request comes from a page of one of these origins.

    Browsers send the page's origin whatever the address, so that a page whose own name resolves to
    this machine (DNS rebinding) is refused.
    """
    if request.headers.get("origin") not in origins:
        raise Refused(403, "only the chat page may send this request")


async def json_object(request: Request) -> dict[str, Any]:
    """Return the request's body. Raise Refused (400) unless it is a small JSON object."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise Refused(400, "the body is too large")
    except ClientDisconnect:
        raise Refused(400, "the body is incomplete") from None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def is_taken(port: int) -> bool:
    """Return whether a program listens on that port of this machine already.

    On either loopback address: for "localhost", a browser tries ::1 first.
    """
    try:
        _bind(socket.AF_INET, HOST, port)
    except OSError:
        return True
    try:
        _bind(socket.AF_INET6, "::1", port)
    except OSError as error:
        return error.errno == errno.EADDRINUSE  # else this machine has no such address
    return False


def _bind(family: socket.AddressFamily, host: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def listen(port: int) -> socket.socket:
    """Return a socket on that loopback port; 0 is any free one. Raise LocalError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise LocalError(f"Port {port} cannot be used: {error.strerror}.") from error
    return listener


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a quiet server for one app: `server.run(sockets=[listen(port)])`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )


def main(name: str, create: Callable[[], ASGIApp]) -> int:
    """Serve an app on the port of the command line until a signal; return the exit code.

    `name` is the module of `chat_api.local` that was called. What keeps the app from being made, or
    the port from being used (LocalError), is printed.
    """
    parser = argparse.ArgumentParser(prog=f"python -m chat_api.local.{name}")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    try:
        app = create()
        listener = listen(options.port)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with listener:
        make_server(app).run(sockets=[listener])
    return 0
