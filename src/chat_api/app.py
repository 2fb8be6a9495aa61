"""The only wiring: makes an ASGI application from settings."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import cached_property

import aiohttp
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from chat_api import __version__
from chat_api.api import (
    admin,
    changes,
    conversations,
    data,
    health,
    messages,
    models,
    search,
    tags,
    usage,
)
from chat_api.api.direct import Direct
from chat_api.api.limits import Failures
from chat_api.api.openapi import describe
from chat_api.api.responses import with_text
from chat_api.api.services import Services
from chat_api.api.streaming.accounting import OpenStreams
from chat_api.api.streaming.response import LongResponses
from chat_api.auth import Authenticator
from chat_api.auth.authenticator import Verifier
from chat_api.auth.keys import Keys
from chat_api.auth.openid import AdminClaim, OpenId
from chat_api.auth.service import AuthService
from chat_api.background import Background
from chat_api.changes import ChangeFeed
from chat_api.conversations.export import Exports
from chat_api.conversations.imports import Imports
from chat_api.conversations.search import Search
from chat_api.conversations.tree import Trees
from chat_api.db import expiry
from chat_api.db.database import Database
from chat_api.db.quotas import Quotas
from chat_api.dialects.ai_sdk import routes as ai_sdk
from chat_api.dialects.openai import conversations as openai_conversations
from chat_api.dialects.openai import responses as openai_responses
from chat_api.dialects.openai.numbering import Numbering
from chat_api.engines.catalogue import DIALECTS
from chat_api.engines.configuration import Configured, read_engines
from chat_api.engines.engines import Engines
from chat_api.error_handlers import (
    answer_api_error,
    answer_http_exception,
    answer_validation_error,
    refusal_of,
)
from chat_api.errors import ApiError, NotFound
from chat_api.frontend import Frontend
from chat_api.generation.clocks import Clocks
from chat_api.generation.continuing import Continuing
from chat_api.generation.deletion import Deletions
from chat_api.generation.drain import Drain
from chat_api.generation.joining import Joins
from chat_api.generation.leases import Leases
from chat_api.generation.log_follower import Follower
from chat_api.generation.log_writer import LogWriter
from chat_api.generation.prompts import Prompts
from chat_api.generation.recovery import Recovery
from chat_api.generation.registry import Registry
from chat_api.generation.send_policy import SendPolicy
from chat_api.generation.stalls import Stalls
from chat_api.generation.stopping import Stops
from chat_api.generation.subscriptions import Subscriptions
from chat_api.generation.sweeping import Sweeping
from chat_api.generation.takeover import Takeover
from chat_api.generation.writer import GenerationWriter
from chat_api.middleware import CatchAll, Cors, HeadAsGet, Trace
from chat_api.settings import Settings, SettingsError, load_settings
from chat_api.shutdown import (
    drained_before_exit,
    ended_with_its_supervisor,
    reloaded_on_hangup,
)
from chat_api.startup import Startup, collect_garbage_less_often
from chat_api.telemetry import configure_logging, log
from chat_api.titling import Titling
from chat_api.tracing import Tracing, open_tracing

# The shortest time between two fetches of a provider's keys, whatever AUTH_CACHE_SECONDS is.
LEAST_REFRESH_SECONDS = 0.5

# Between two deletions of old acts in the audit log.
AUDIT_SWEEP_SECONDS = 3600.0

# Database connections of each process besides the DATABASE_POOL_SIZE of requests.
UPKEEP_CONNECTIONS = 3


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the chat API. Without `settings`, read the environment; raise SettingsError."""
    settings = settings or load_settings()
    configure_logging(settings.log_level)
    tracing = open_tracing(settings)
    app = FastAPI(
        title="samosaChaat Chat API",
        version=__version__,
        lifespan=_lifespan(settings, read_engines(settings, DIALECTS), tracing),
        redirect_slashes=False,
        redoc_url=None,
        # FastAPI's own telemetry quotes exceptions, and bodies to its processors.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    # The one added last is the outermost.
    app.add_middleware(Direct, refuse=answer_api_error)
    app.add_middleware(CatchAll, refusal=refusal_of)
    app.add_middleware(Cors, origins=settings.origins, refusal=refusal_of)
    app.add_middleware(Trace, tracing=tracing)
    if settings.trusted_proxies:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)
    app.add_middleware(LongResponses)
    app.add_middleware(HeadAsGet)
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_exception_handler(RequestValidationError, answer_validation_error)
    own = (health, conversations, tags, messages, models, search, changes, data, usage, admin)
    for part in own:
        app.include_router(part.router)
    for dialect in (ai_sdk, openai_responses, openai_conversations):
        app.include_router(dialect.router)
    if settings.serve_web:
        _serve_page(app, settings)
    describe(app)
    return app


def _serve_page(app: FastAPI, settings: Settings) -> None:
    """Add the page's routes. Must be called last: one of them matches every path."""
    page = Frontend(sign_in=settings.web_sign_in_url or None, missing=NotFound)
    for path, endpoint in page.endpoints().items():
        app.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False)


def _lifespan(
    settings: Settings, configured: Sequence[Configured], tracing: Tracing | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # A new connection for each call: none is lost on one that the other side is closing. Their
        # number is not limited here, since each stream may need one.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as http:
            process = _Process(settings, configured, http, tracing)
            if process.db.without_effect:
                log.warning("parameters_without_effect", names=process.db.without_effect)
            await process.db.open()
            await process.upkeep.open()
            app.state.services = process.services
            collect_garbage_less_often()
            starting = Background(
                "start", Startup(settings, (process.db, process.upkeep), process.begin).step
            )
            try:
                async with starting, process.provider_keys_kept_fresh():
                    with (
                        drained_before_exit(process.drain.drain),
                        ended_with_its_supervisor(),
                        reloaded_on_hangup(process.reload),
                    ):
                        yield
            finally:
                await process.drain.stop(process.background)
                process.engines.close()
                await asyncio.gather(process.db.close(), process.upkeep.close())
                if tracing is not None:
                    await tracing.close()

    return lifespan


class _Process:
    """The objects of one process, each made once, from the settings and from the others."""

    def __init__(
        self,
        settings: Settings,
        configured: Sequence[Configured],
        http: aiohttp.ClientSession,
        tracing: Tracing | None,
    ) -> None:
        self._tracing = tracing
        self._settings = settings
        self._configured = configured
        self._http = http
        self.registry = Registry()

    def reload(self) -> None:
        """Read ENGINES_FILE again. An invalid file changes nothing; other settings are not read."""
        try:
            self.engines.reload(read_engines(self._settings, DIALECTS))
        except SettingsError as error:
            log.error("engines_not_reloaded", reason=str(error))
            return
        log.info("reloaded")

    def begin(self) -> None:
        """Start the background tasks."""
        for task in self.background:
            task.start()
        log.info("started", process=self.registry.process)

    # --- neighbours ---

    @cached_property
    def db(self) -> Database:
        """Return the connections of requests."""
        return Database(
            self._settings.database_url,
            size=self._settings.database_pool_size,
            timeout_seconds=self._settings.database_timeout_seconds,
        )

    @cached_property
    def upkeep(self) -> Database:
        """Return the connections of leases and event log.

        They must not wait behind requests, nor longer than a lease allows.
        """
        settings = self._settings
        return Database(
            settings.database_url,
            size=UPKEEP_CONNECTIONS,
            timeout_seconds=min(settings.database_timeout_seconds, settings.lease_seconds / 2),
            refusals=self.db.refusals,
        )

    @cached_property
    def engines(self) -> Engines:
        return Engines(self._http, self._settings, self._configured)

    @cached_property
    def authenticator(self) -> Authenticator:
        return Authenticator(
            self.verifier,
            cache_size=self._settings.auth_cache_size,
            trusted_seconds=self._trusted_seconds,
        )

    @cached_property
    def verifier(self) -> Verifier:
        settings = self._settings
        if settings.auth_mode == "jwks":
            return OpenId(
                self.keys,
                issuer=settings.auth_issuer,
                audience=settings.auth_audience,
                user_claim=settings.auth_user_claim,
                admin_claim=AdminClaim(settings.auth_admin_claim),
                skew_seconds=settings.auth_clock_skew_seconds,
            )
        return AuthService(
            url=settings.auth_service_url,
            internal_api_key=settings.internal_api_keys[0],
            timeout_seconds=settings.auth_timeout_seconds,
        )

    @cached_property
    def keys(self) -> Keys:
        """Return the keys of the OpenID provider."""
        settings = self._settings
        return Keys(
            self._http,
            issuer=settings.auth_issuer,
            jwks_url=settings.auth_jwks_url,
            timeout_seconds=settings.auth_timeout_seconds,
            refresh_seconds=max(
                LEAST_REFRESH_SECONDS, min(self._trusted_seconds, settings.auth_keys_seconds / 2)
            ),
            most_age_seconds=settings.auth_keys_seconds,
        )

    def provider_keys_kept_fresh(self) -> AbstractAsyncContextManager[object]:
        """Fetch the provider's keys, from before the database is there until the end."""
        if self._settings.auth_mode == "jwks":
            return Background("fetch-keys", self.keys.step)
        return nullcontext()

    @property
    def _trusted_seconds(self) -> float:
        """Return how many seconds a verdict is trusted.

        Of a token that is verified here, half of AUTH_CACHE_SECONDS: its key may be as old as the
        other half.
        """
        seconds = self._settings.auth_cache_seconds
        return seconds / 2 if self._settings.auth_mode == "jwks" else seconds

    # --- generations: running and reading them ---

    @cached_property
    def log_writer(self) -> LogWriter:
        return LogWriter(self.upkeep, self.registry, every_seconds=self._settings.log_flush_seconds)

    @cached_property
    def follower(self) -> Follower:
        return Follower(self.upkeep, every_seconds=self._settings.log_flush_seconds)

    @cached_property
    def writer(self) -> GenerationWriter:
        return GenerationWriter(
            self.db,
            self.engines,
            self.registry,
            self.log_writer,
            self.titling,
            tracing=self._tracing,
            max_chars=self._settings.max_answer_chars,
            max_bytes=self._settings.max_answer_bytes,
            first_token_seconds=self._settings.first_token_timeout_seconds,
        )

    @cached_property
    def continuing(self) -> Continuing:
        return Continuing(self.upkeep, self.engines)

    @cached_property
    def titling(self) -> Titling:
        return Titling(self.db, self.engines, model_tag=self._settings.title_model)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        return Subscriptions(
            self.db,
            self.follower,
            self.registry,
            lease_seconds=self._settings.lease_seconds,
            heartbeat_seconds=self._settings.heartbeat_seconds,
            slow_reader_seconds=self._settings.slow_reader_seconds,
        )

    @cached_property
    def prompts(self) -> Prompts:
        return Prompts(
            system_prompt=self._settings.system_prompt,
            thinking_prompt=self._settings.thinking_prompt,
            max_messages=self._settings.max_conversation_history,
            max_chars=self._settings.max_token_budget,
            max_message_chars=self.engines.max_message_chars or self._settings.max_answer_chars,
        )

    # --- generations: what clients ask for ---

    @cached_property
    def sends(self) -> SendPolicy:
        settings = self._settings
        return SendPolicy(
            self.db,
            self.registry,
            self.prompts,
            self.writer,
            self.subscriptions,
            self.joins,
            self.stops,
            self.continuing,
            quotas=Quotas(
                settings.messages_per_minute,
                settings.max_running_answers,
                settings.answers_per_day,
                settings.tokens_per_day,
            ),
            lease_seconds=settings.lease_seconds,
        )

    @cached_property
    def joins(self) -> Joins:
        return Joins(self.db, self.registry, self.subscriptions)

    @cached_property
    def stops(self) -> Stops:
        return Stops(
            self.db,
            self.registry,
            self.writer,
            lease_seconds=self._settings.lease_seconds,
            timeout_seconds=self._settings.database_timeout_seconds,
        )

    @cached_property
    def changes(self) -> ChangeFeed:
        return ChangeFeed(
            self.db,
            self.upkeep,
            heartbeat_seconds=self._settings.heartbeat_seconds,
            slow_reader_seconds=self._settings.slow_reader_seconds,
        )

    @cached_property
    def services(self) -> Services:
        return Services(
            settings=self._settings,
            db=self.db,
            authenticator=self.authenticator,
            engines=self.engines,
            registry=self.registry,
            sends=self.sends,
            joins=self.joins,
            stops=self.stops,
            deletions=Deletions(self.db, self.registry),
            # Half of the connections, so that other requests find one.
            trees=Trees(self.db, self.registry.own),
            exports=Exports(self.db, lambda message: with_text(self.joins, message)),
            imports=Imports(
                self.db, self.registry.own, retention_days=self._settings.retention_days
            ),
            search=Search(self.db, at_once=max(1, self._settings.database_pool_size // 2)),
            changes=self.changes,
            failures=Failures(self._settings.unauthenticated_per_minute),
            open_streams=OpenStreams(self._settings.max_open_streams),
        )

    # --- generations: what goes on in the background ---

    @cached_property
    def takeover(self) -> Takeover:
        return Takeover(
            self.db,
            self.upkeep,
            self.registry,
            self.prompts,
            self.writer,
            self.continuing,
            interrupts=self._settings.on_crash == "interrupt",
        )

    @cached_property
    def recovery(self) -> Recovery:
        return Recovery(
            self.upkeep,
            self.registry,
            self.takeover,
            lease_seconds=self._settings.lease_seconds,
        )

    @cached_property
    def leases(self) -> Leases:
        return Leases(
            self.upkeep,
            self.registry,
            self.subscriptions,
            lease_seconds=self._settings.lease_seconds,
        )

    @cached_property
    def stalls(self) -> Stalls:
        return Stalls(self.upkeep, self.registry, lease_seconds=self._settings.lease_seconds)

    @cached_property
    def sweeping(self) -> Sweeping:
        return Sweeping(
            self.upkeep,
            log_retention_seconds=self._settings.log_retention_seconds,
            retention_days=self._settings.retention_days,
        )

    @cached_property
    def numbering(self) -> Numbering:
        return Numbering(self.upkeep, log_retention_seconds=self._settings.log_retention_seconds)

    @cached_property
    def clocks(self) -> Clocks:
        return Clocks(
            self.registry,
            self.subscriptions,
            first_token_seconds=self._settings.first_token_timeout_seconds,
            token_seconds=self._settings.token_timeout_seconds,
            generation_seconds=self._settings.answer_timeout_seconds,
        )

    @cached_property
    def drain(self) -> Drain:
        return Drain(
            self.upkeep,
            self.registry,
            self.log_writer,
            self.subscriptions,
            self.stalls,
            self.changes,
            drain_seconds=self._settings.drain_seconds,
        )

    @cached_property
    def background(self) -> tuple[Background, ...]:
        return (
            Background("write-log", self.log_writer.step),
            Background("follow-log", self.follower.step),
            self.clocks.task(),
            self.leases.task(),
            self.recovery.task(),
            self.stalls.task(),
            self.numbering.task(),
            *self.changes.tasks(),
            *self.titling.tasks(),
            *self.sweeping.tasks(),
            Background("sweep-audit", self._sweep_audit, every_seconds=AUDIT_SWEEP_SECONDS),
        )

    async def _sweep_audit(self) -> None:
        await expiry.delete_old_acts(self.upkeep, self._settings.audit_days)
