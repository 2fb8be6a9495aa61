"""The only wiring: settings in, an ASGI application out."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Match

from chat_api import __version__
from chat_api.api import conversations, health, messages, models
from chat_api.api.limits import Failures, OpenStreams
from chat_api.api.openapi import describe
from chat_api.api.responses import LongResponses
from chat_api.api.services import Services
from chat_api.auth import Authenticator
from chat_api.db.database import Database
from chat_api.db.migrate import MigrationRefused, migrate
from chat_api.db.schema import Schema, inspect
from chat_api.engines.samosachaat import SamosachaatEngine
from chat_api.errors import (
    ApiError,
    BadRequest,
    DatabaseRefused,
    Invalid,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    problem,
)
from chat_api.frontend import Frontend
from chat_api.generation.background import Background
from chat_api.generation.service import Generations
from chat_api.middleware import CatchAll, Trace
from chat_api.settings import Settings, load_settings
from chat_api.shutdown import drained_before_exit, ended_with_its_supervisor
from chat_api.telemetry import REFUSALS, configure_logging, log, trace_id_var

# Of each process, beside DATABASE_POOL_SIZE for requests.
UPKEEP_CONNECTIONS = 3
# After a look at a database that cannot be worked on.
_LOOK_AGAIN_SECONDS = 1.0


def create_app(settings: Settings | None = None) -> FastAPI:
    """The chat API. Without settings they are read from the environment (SettingsError)."""
    settings = settings or load_settings()
    configure_logging(settings.log_level)
    app = FastAPI(
        title="samosaChaat Chat API",
        version=__version__,
        lifespan=_lifespan(settings),
        redirect_slashes=False,
        redoc_url=None,
    )
    # The last added is the outermost.
    app.add_middleware(CatchAll)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Last-Event-ID",
            "traceparent",
            "x-trace-id",
        ],
        allow_credentials=True,
        expose_headers=[
            "Location",
            "RateLimit",
            "RateLimit-Policy",
            "Retry-After",
            "x-trace-id",
        ],
        max_age=600,
    )
    app.add_middleware(Trace)
    if settings.trusted_proxies:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)
    app.add_middleware(LongResponses)
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    for part in (health, conversations, messages, models):
        app.include_router(part.router)
    if settings.serve_web:
        _serve_page(app, settings)
    describe(app)
    return app


def _serve_page(app: FastAPI, settings: Settings) -> None:
    """After all other routes: the page stands in front of none of them."""
    page = Frontend(sign_in=settings.web_sign_in_url or None, missing=NotFound)
    for path, endpoint in page.endpoints().items():
        app.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False)


async def _answer_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  # what the handler is registered for
    if isinstance(error, TooManyRequests):
        REFUSALS.labels(error.code).inc()
    return problem(error, trace_id_var.get())


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals: unknown paths and methods, unreadable requests."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    ours: ApiError
    if status == 404:
        ours = NotFound()
    elif status == 405:
        ours = MethodNotAllowed(headers={"Allow": ", ".join(_methods_of(request))})
    else:
        ours = BadRequest()
    return problem(ours, trace_id_var.get())


def _methods_of(request: Request) -> list[str]:
    """The methods that the request's path knows."""
    return [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _answer_validation_error(_request: Request, error: Exception) -> Response:
    """Query parameters; bodies are read by api.bodies."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problems = [(str(e["loc"][-1]), str(e["msg"])) for e in error.errors()]
    return problem(Invalid(problems), trace_id_var.get())


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        key = settings.internal_api_keys[0]
        db, upkeep = _pools(settings)
        await db.open()
        await upkeep.open()
        # A connection each, so that no request is lost on one that the neighbour is just closing;
        # and no limit to their number: that is the business of whoever opens streams.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as http:
            inference = SamosachaatEngine(
                http,
                url=settings.inference_service_url,
                internal_api_key=key,
                connect_timeout_seconds=settings.connect_timeout_seconds,
                swap_timeout_seconds=settings.swap_timeout_seconds,
                max_event_bytes=settings.max_event_bytes,
            )
            answers = Generations(db, upkeep, inference, settings)
            app.state.services = Services(
                settings=settings,
                db=db,
                authenticator=Authenticator(
                    http,
                    url=settings.auth_service_url,
                    internal_api_key=key,
                    timeout_seconds=settings.auth_timeout_seconds,
                    cache_size=settings.auth_cache_size,
                    trusted_seconds=settings.auth_cache_seconds,
                ),
                inference=inference,
                answers=answers,
                failures=Failures(settings.unauthenticated_per_minute),
                open_streams=OpenStreams(settings.max_open_streams),
            )
            starting = Background("start", _Starter(settings, (db, upkeep), answers).step)
            try:
                async with starting:
                    with drained_before_exit(answers.drain), ended_with_its_supervisor():
                        yield
            finally:
                await answers.stop()
                await asyncio.gather(db.close(), upkeep.close())

    return lifespan


def _pools(settings: Settings) -> tuple[Database, Database]:
    """The connections of requests, and those of leases and log."""
    db = Database(
        settings.database_url,
        size=settings.database_pool_size,
        timeout_seconds=settings.database_timeout_seconds,
    )
    # They must not wait behind requests, nor longer than a lease allows.
    upkeep = Database(
        settings.database_url,
        size=UPKEEP_CONNECTIONS,
        timeout_seconds=min(settings.database_timeout_seconds, settings.lease_seconds / 2),
        refusals=db.refusals,
    )
    if db.without_effect:
        log.warning("parameters_without_effect", names=db.without_effect)
    return db, upkeep


class _Starter:
    """Begins the work on answers once the schema is there; waits for the database until then."""

    def __init__(self, settings: Settings, pools: Sequence[Database], answers: Generations) -> None:
        self._settings = settings
        self._pools = pools
        self._answers = answers
        self._said: str | None = None

    async def step(self) -> None:
        db = self._pools[0]
        try:
            async with db.connection() as connection:
                found = await inspect(connection)
            if found.refusal is not None:
                raise DatabaseRefused(found.refusal)
        except DatabaseRefused as error:
            await self._give_up(error.reason)
            return
        may_migrate = found.schema in {Schema.BEHIND, Schema.PREDECESSOR}
        if may_migrate and self._settings.migrate_on_start:
            await self._migrate(db)
        elif found.fault is not None:
            await self._wait(found.fault)
        else:
            db.schema_fault = None
            for pool in self._pools:
                pool.schema_is_complete = True
            self._answers.start()
            log.info("started", process=self._answers.process, schema=found.schema.value)
            await asyncio.Event().wait()  # nothing more to do

    async def _migrate(self, db: Database) -> None:
        try:
            await migrate(self._settings.database_url)
        except MigrationRefused as error:
            db.schema_fault = str(error)
            await self._wait(str(error))
        else:
            log.info("migrated")

    async def _wait(self, reason: str) -> None:
        """Say once why the service does not start, and wait for somebody to put it right."""
        if reason != self._said:
            self._said = reason
            log.error("not_ready", reason=reason)
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _give_up(self, reason: str) -> None:
        """End the process: nothing that can be done while it waits would help.

        A worker's supervisor would only start another one, so a worker stays, and is not ready.
        """
        if multiprocessing.parent_process() is not None:
            await self._wait(reason)
            return
        log.critical("cannot_start", reason=reason)
        Background.died = True
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
