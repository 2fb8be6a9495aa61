"""Every variable that the chat API reads, validated once at start and passed in.

The table of docs/reference.md names each of them; a test compares the two.
"""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from chat_api import database_url, frontend
from chat_api.addresses import http_address, origins_of
from chat_api.shared_keys import is_weak, keys_of

# What the inference service accepts (its contract, not a choice of ours).
INFERENCE_MESSAGE_CHARS = 8_000
INFERENCE_REQUEST_CHARS = 32_000

Seconds = Annotated[float, Field(ge=0.01, le=86_400, allow_inf_nan=False)]
Limit = Annotated[int, Field(ge=0, le=1_000_000)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class SettingsError(ValueError):
    """The service cannot start with this environment; the text says what to do."""


class Settings(BaseSettings):
    """The service's configuration. Field `database_url` is the variable `DATABASE_URL`, and so on.

    Times are in seconds, sizes in bytes, texts in characters.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: Annotated[str, Field(description="PostgreSQL")] = (
        "postgresql+asyncpg://localhost/samosachaat"
    )
    auth_service_url: Annotated[str, Field(description="the auth service")] = "http://auth:8001"
    inference_service_url: Annotated[
        str,
        Field(description="address of the engine; with its `/v1` for `openai`"),
    ] = "http://inference:8000"
    inference_api: Annotated[
        str,  # engines.configuration knows which there are
        Field(
            pattern=r"^[a-z][a-z0-9_]*$",
            description="its dialect: `samosachaat`, or `openai` (Chat Completions)",
        ),
    ] = "samosachaat"
    inference_api_key: Annotated[
        SecretStr | None, Field(description="its key, for `openai`: sent as a bearer token")
    ] = None
    engines_file: Annotated[
        str,
        Field(description="a TOML file of several engines (docs/engines.md), instead of the above"),
    ] = ""
    default_model: Annotated[
        str,
        Field(
            max_length=100,
            description='the model that "default" means; without it, the first one listed',
        ),
    ] = ""
    internal_api_key: Annotated[
        SecretStr,
        Field(
            min_length=1,
            description="the key shared between the services, at least 16 random characters; of "
            "several, separated by commas, the first is sent",
        ),
    ]

    max_conversation_history: Annotated[
        int, Field(ge=1, le=1000, description="most messages in one engine call")
    ] = 50
    max_token_budget: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="most characters in one engine call if the size of the context is "
            "unknown; the newest message is always sent",
        ),
    ] = 6000
    system_prompt: Annotated[
        str, Field(max_length=4000, description="instructions that the model gets first")
    ] = ""
    thinking_prompt: Annotated[
        str,
        Field(max_length=3900, description="further ones, for a message sent with `thinking_mode`"),
    ] = "Think step by step before you answer."

    title_model: Annotated[
        str,
        Field(
            max_length=100,
            pattern="^[!-~]*$",
            description="the model that writes the titles of conversations, `default` for the one "
            "that answers; without it, a title is the first line of the first message",
        ),
    ] = ""

    frontend_url: Annotated[
        str,
        Field(
            description="the origins that CORS allows, separated by commas; `*`: any, which is "
            "safe because no request uses cookies"
        ),
    ] = "http://localhost:3000"
    serve_web: Annotated[bool, Field(description="serve the chat page under `/`")] = False
    web_sign_in_url: Annotated[
        str, Field(description="where the page signs users in; without it, they paste a token")
    ] = ""
    log_level: Annotated[LogLevel, Field(description="log level")] = "INFO"
    otel_traces_exporter: Annotated[
        Literal["none", "otlp"],
        Field(description="`otlp` sends traces to a collector, `none` sends none"),
    ] = "none"

    database_pool_size: Annotated[
        int, Field(ge=1, le=1000, description="most database connections of one process")
    ] = 10
    database_timeout_seconds: Annotated[
        Seconds, Field(description="how long a statement, or waiting for a connection, may take")
    ] = 10
    migrate_on_start: Annotated[bool, Field(description="bring the schema up to date at start")] = (
        True
    )

    auth_mode: Annotated[
        Literal["service", "jwks"],
        Field(
            description="who validates tokens: the auth service, or this service itself by the "
            "keys of an OpenID provider (`jwks`)"
        ),
    ] = "service"
    auth_issuer: Annotated[
        str,
        Field(
            max_length=1000,
            description="for `jwks`: the provider, exactly as in the `iss` of tokens",
        ),
    ] = ""
    auth_audience: Annotated[
        str,
        Field(max_length=1000, description="for `jwks`: what the `aud` of tokens must contain"),
    ] = ""
    auth_jwks_url: Annotated[
        str,
        Field(description="for `jwks`: the provider's keys; without it, discovered at the issuer"),
    ] = ""
    auth_user_claim: Annotated[
        str, Field(min_length=1, max_length=200, description="for `jwks`: the claim of the user id")
    ] = "sub"
    auth_admin_claim: Annotated[
        str,
        Field(
            max_length=400,
            description="for `jwks`: the claim that is true for administrators, or `claim=value`, "
            "such as `realm_access.roles=admin`; without it, there are none",
        ),
    ] = ""
    auth_clock_skew_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=600,
            allow_inf_nan=False,
            description="for `jwks`: how much the provider's clock may differ",
        ),
    ] = 60
    auth_keys_seconds: Annotated[
        Seconds,
        Field(description="for `jwks`: how long keys stay valid while the provider is unreachable"),
    ] = 3600
    auth_timeout_seconds: Annotated[
        Seconds, Field(description="how long the auth service, or the provider, may take")
    ] = 5
    auth_cache_size: Annotated[
        int, Field(ge=1, le=10_000_000, description="most validated tokens remembered")
    ] = 10_000
    auth_cache_seconds: Annotated[
        Seconds,
        Field(description="how long a validated token, and a stream opened with it, is trusted"),
    ] = 300

    connect_timeout_seconds: Annotated[
        Seconds, Field(description="how long connecting to an engine may take")
    ] = 5
    first_token_timeout_seconds: Annotated[
        Seconds, Field(description="how long an answer's first token may take")
    ] = 120
    token_timeout_seconds: Annotated[
        Seconds, Field(description="how long the silence between two tokens may be")
    ] = 60
    answer_timeout_seconds: Annotated[
        Seconds, Field(description="how long one answer may take in all")
    ] = 1800
    max_answer_chars: Annotated[
        int, Field(ge=1, le=10_000_000, description="most characters of one answer")
    ] = 200_000
    max_answer_bytes: Annotated[
        int,
        Field(
            ge=1024, le=1_000_000_000, description="most bytes of all events of one answer together"
        ),
    ] = 20_000_000
    max_event_bytes: Annotated[
        int,
        Field(ge=1024, le=100_000_000, description="most bytes of one event of an engine"),
    ] = 1_000_000
    swap_timeout_seconds: Annotated[
        Seconds, Field(description="how long swapping the model may take")
    ] = 600

    messages_per_minute: Annotated[
        Limit,
        Field(
            description="most messages of a user in a minute, on all replicas together; 0: no limit"
        ),
    ] = 6000
    max_running_answers: Annotated[
        Limit,
        Field(description="most answers of a user at once, on all replicas together; 0: no limit"),
    ] = 5000
    answers_per_day: Annotated[
        Limit,
        Field(
            description="most answers of a user on a day (UTC), failed ones not counted, on all "
            "replicas together; 0: no limit"
        ),
    ] = 0
    tokens_per_day: Annotated[
        int,
        Field(
            ge=0,
            le=10**15,
            description="most tokens of a user on a day (UTC), read and written, on all replicas "
            "together; the answer that reaches it is completed; 0: no limit",
        ),
    ] = 0
    max_open_streams: Annotated[
        Limit, Field(description="most open streams of a user in one process; 0: no limit")
    ] = 5000
    unauthenticated_per_minute: Annotated[
        Limit,
        Field(
            description="most requests of an address that fail authentication, in a minute and in "
            "one process; 0: no limit"
        ),
    ] = 600
    trusted_proxies: Annotated[
        str,
        Field(description="the networks whose `X-Forwarded-For` is trusted, separated by commas"),
    ] = ""

    max_connections: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="most connections of one process; fewer where it may open fewer files",
        ),
    ] = 8_000
    keep_alive_seconds: Annotated[
        int,
        Field(
            ge=1, le=86_400, description="how long a connection may be idle between two requests"
        ),
    ] = 75
    request_seconds: Annotated[
        Seconds, Field(description="how long a request may take to arrive, headers and body")
    ] = 10
    max_header_bytes: Annotated[
        int, Field(ge=1024, le=1_000_000, description="most bytes of a request's headers")
    ] = 32_768
    max_body_bytes: Annotated[
        int, Field(ge=1024, le=100_000_000, description="most bytes of a request's body")
    ] = 262_144
    max_import_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=100_000_000_000,
            description="most bytes of a file to import, and of all files in an archive",
        ),
    ] = 4_000_000_000
    heartbeat_seconds: Annotated[
        Seconds, Field(description="how long a stream may be silent before a comment is sent")
    ] = 15
    slow_reader_seconds: Annotated[
        Seconds, Field(description="how long a client may read nothing before its stream is closed")
    ] = 30

    log_flush_seconds: Annotated[
        float,
        Field(
            ge=0.01, le=5, description="how long a batch of events collects before it is written"
        ),
    ] = 0.15
    retention_days: Annotated[
        int,
        Field(
            ge=0,
            le=36_500,
            description="days after its last message at which a conversation is deleted, "
            "favourites too; 0: never",
        ),
    ] = 0
    audit_days: Annotated[
        int,
        Field(
            ge=0,
            le=36_500,
            description="days after which an act of an administrator leaves the audit log; "
            "0: never",
        ),
    ] = 0
    log_retention_seconds: Annotated[
        Seconds, Field(description="how long the events of an ended answer can be replayed")
    ] = 300
    lease_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=300,
            description="how long a replica may be silent before its answers are taken over",
        ),
    ] = 8
    on_crash: Annotated[
        Literal["rerun", "interrupt"],
        Field(
            description="what happens to a dead replica's answers: `rerun` (continued or "
            "written again) or `interrupt`"
        ),
    ] = "rerun"
    drain_seconds: Annotated[
        float,
        Field(ge=0, le=3600, description="how long running answers get after SIGTERM"),
    ] = 20

    @field_validator("auth_service_url", "inference_service_url", "web_sign_in_url")
    @classmethod
    def _is_http_address(cls, value: str, field: ValidationInfo) -> str:
        if not value and field.field_name == "web_sign_in_url":
            return value
        return http_address(value)

    @field_validator("auth_jwks_url")
    @classmethod
    def _is_address_or_empty(cls, value: str) -> str:
        return http_address(value, with_query=True) if value else value

    @field_validator("auth_admin_claim")
    @classmethod
    def _names_a_claim(cls, value: str) -> str:
        name, equals, wanted = value.partition("=")
        if (value and not name) or (equals and not wanted):
            raise ValueError("must be a claim, or claim=value")
        return value

    @field_validator(
        "engines_file",
        "default_model",
        "auth_issuer",
        "auth_audience",
        "auth_user_claim",
        "auth_admin_claim",
    )
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip():
            raise ValueError("must be printable text without blanks around it")
        return value

    @field_validator("inference_api_key")
    @classmethod
    def _is_one_line(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value() if value is not None else ""
        if not key.isascii() or not all(map(str.isprintable, key)) or key != key.strip():
            raise ValueError("must be printable ASCII without blanks around it")
        return value

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: object) -> object:
        """Refuse bytes that are not UTF-8, which arrive from the environment as lone surrogates."""
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("must be text in UTF-8") from None
        return value

    @field_validator("frontend_url")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        return ",".join(origins_of(value))

    @field_validator("serve_web")
    @classmethod
    def _is_built(cls, value: bool) -> bool:
        if value and not frontend.is_built():
            raise ValueError(frontend.NOT_BUILT)
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgresql_address(cls, value: str) -> str:
        database_url.parse(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        networks = [part for text in value.split(",") if (part := text.strip())]
        try:
            return ",".join(str(ipaddress.ip_network(network)) for network in networks)
        except ValueError:  # also for `*`, which would trust every client
            raise ValueError("must be networks such as 10.0.0.0/8,fd00::/8") from None

    @field_validator("internal_api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value()
        if not key.isascii() or not key.isprintable() or key != key.strip():
            raise ValueError("must be printable ASCII without blanks around it")
        if not all(keys_of(key)):
            raise ValueError("must be one key, or several separated by commas")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _prompts_fit_a_message(self) -> Self:
        if len(self.system_prompt) + len(self.thinking_prompt) + 2 > INFERENCE_MESSAGE_CHARS // 2:
            raise ValueError("SYSTEM_PROMPT and THINKING_PROMPT together exceed 3,998 characters")
        return self

    @model_validator(mode="after")
    def _names_a_provider(self) -> Self:
        if self.auth_mode != "jwks":
            return self
        for name in ("auth_issuer", "auth_audience"):
            if not getattr(self, name):
                raise ValueError(f"AUTH_MODE=jwks needs {name.upper()}")
        if not self.auth_jwks_url:
            try:
                http_address(self.auth_issuer)
            except ValueError:
                raise ValueError(
                    "AUTH_ISSUER is no address at which keys are discovered; set AUTH_JWKS_URL"
                ) from None
        return self

    @property
    def internal_api_keys(self) -> tuple[str, ...]:
        """Return the keys of `INTERNAL_API_KEY`; the first one is sent."""
        return keys_of(self.internal_api_key.get_secret_value())

    @property
    def origins(self) -> list[str]:
        """Return the origins of `FRONTEND_URL`, as browsers write them."""
        return origins_of(self.frontend_url)


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raise SettingsError with one line per wrong variable; it does not repeat values.
    """
    try:
        settings = Settings()  # type: ignore[call-arg]  # the fields come from the environment
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = ".".join(str(part) for part in problem["loc"]).upper()
            if problem["type"] == "missing":
                lines.append(f"{name} is not set. Set it to the key that the services share.")
            else:
                lines.append(f"{name}: {problem['msg']}" if name else problem["msg"])
        raise SettingsError("\n".join(lines)) from None
    # Not a validator: Settings that are made by hand, as in tests, may have any key.
    if any(map(is_weak, settings.internal_api_keys)):
        raise SettingsError(
            "INTERNAL_API_KEY: is too easy to guess; use at least 16 random characters, such as "
            "`openssl rand -hex 32` gives."
        )
    return settings
