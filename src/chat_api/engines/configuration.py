"""The configuration of engines: one by the environment, several by ENGINES_FILE.

[[engine]]
name = "local"                       # the first part of a model_tag
url = "http://127.0.0.1:8080/v1"     # for api = "openai" with its /v1
api = "openai"                       # or "samosachaat"
key_env = "LOCAL_KEY"                # the variable that holds the key
models = ["small", "large"]          # instead of asking the engine
context_tokens = 8192                # of its models, where it does not say itself
fallback = ["other/large"]           # models to take when this engine fails
continues = true                     # goes on from a given beginning; default: find out
"""

import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from chat_api.addresses import http_address
from chat_api.settings import Settings, SettingsError

_HEADER = re.compile(r"\s*\[\[\s*[\"']?engine[\"']?\s*\]\]")
_PLACE = re.compile(r"(.*) \(at line (\d+), column \d+\)", re.DOTALL)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"

Tag = Annotated[str, Field(min_length=1, max_length=100)]


class EngineSettings(BaseModel):
    """One engine, as it is configured."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=f"^{_NAME}$")]
    url: str
    api: str = "openai"
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    models: Annotated[list[Tag], Field(min_length=1)] | None = None
    context_tokens: Annotated[int, Field(ge=256, lt=2**31)] | None = None
    fallback: list[Tag] = []
    continues: bool | None = None

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return http_address(value)


@dataclass(frozen=True, slots=True)
class Configured:
    """An engine's settings and its key, which is only sent to the engine."""

    settings: EngineSettings
    key: SecretStr


def read_engines(
    settings: Settings, dialects: Collection[str], environment: Mapping[str, str] = os.environ
) -> tuple[Configured, ...]:
    """Return the engines that the settings name, in their order; at least one.

    Raise SettingsError: for a file, with its line and the reason.
    """
    if settings.engines_file:
        return _read_file(settings, dialects, environment)
    if settings.inference_api not in dialects:
        raise SettingsError(f"INFERENCE_API: {_choice(dialects)}.")
    is_ours = settings.inference_api == "samosachaat"
    one = EngineSettings(
        name=settings.inference_api, url=settings.inference_service_url, api=settings.inference_api
    )
    key = SecretStr(settings.internal_api_keys[0]) if is_ours else settings.inference_api_key
    return (Configured(one, key or SecretStr("")),)


def _choice(dialects: Collection[str]) -> str:
    return f"must be one of {', '.join(sorted(dialects))}"


def _read_file(
    settings: Settings, dialects: Collection[str], environment: Mapping[str, str]
) -> tuple[Configured, ...]:
    path = Path(settings.engines_file)
    try:
        text = path.read_text("utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"ENGINES_FILE: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"ENGINES_FILE: {path} is not UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.fullmatch(str(error))
        why = found[1] if found else str(error).removesuffix(" (at end of document)")
        line = found[2] if found else max(1, len(text.splitlines()))
        raise SettingsError(f"ENGINES_FILE: {path}, line {line}: {why}.") from None
    return _Reader(path, text, settings, dialects, environment).read(document)


class _Reader:
    """Turns the parsed file into engines; errors name the line."""

    def __init__(
        self,
        path: Path,
        text: str,
        settings: Settings,
        dialects: Collection[str],
        environment: Mapping[str, str],
    ) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._headers = [n for n, line in enumerate(self._lines) if _HEADER.match(line)]
        self._settings = settings
        self._dialects = dialects
        self._environment = environment

    def read(self, document: dict[str, Any]) -> tuple[Configured, ...]:
        for name in document:
            if name != "engine":
                raise self._complaint(self._line(None, name), f"{name} is not known here")
        tables = document.get("engine")
        if not isinstance(tables, list) or not tables:
            raise self._complaint(1, "there is no [[engine]] table")
        engines = [self._engine(index, table) for index, table in enumerate(tables)]
        names = [engine.settings.name for engine in engines]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise self._complaint(self._line(index, "name"), f"the name {name} is taken")
        for index, engine in enumerate(engines):
            for tag in engine.settings.fallback:
                if not _is_known(tag, engines):
                    reason = f"fallback {tag!r} is no model of these engines"
                    raise self._complaint(self._line(index, "fallback"), reason)
        return tuple(engines)

    def _engine(self, index: int, table: object) -> Configured:
        try:
            engine = EngineSettings.model_validate(table)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            field = str(problem["loc"][0]) if problem["loc"] else ""
            reason = f"{field}: {problem['msg']}" if field else problem["msg"]
            raise self._complaint(self._line(index, field), reason) from None
        if engine.api not in self._dialects:
            reason = f"api: {_choice(self._dialects)}"
            raise self._complaint(self._line(index, "api"), reason)
        return Configured(engine, SecretStr(self._key(index, engine)))

    def _key(self, index: int, engine: EngineSettings) -> str:
        if engine.key_env is None:
            return self._settings.internal_api_keys[0] if engine.api == "samosachaat" else ""
        key = self._environment.get(engine.key_env, "").strip()
        if not key:
            raise self._complaint(self._line(index, "key_env"), f"{engine.key_env} is not set")
        if not key.isascii() or not key.isprintable():
            reason = f"{engine.key_env} must be printable ASCII"
            raise self._complaint(self._line(index, "key_env"), reason)
        return key

    def _line(self, index: int | None, field: str) -> int:
        """Return the line of a field in the engine of that index, or of the engine's header."""
        if index is None:
            start, end = 0, len(self._lines)
        elif index < len(self._headers):
            start = self._headers[index]
            end = (*self._headers, len(self._lines))[index + 1]
        else:  # written inline
            return 1
        key = re.compile(rf"""\s*(\[+\s*)?["']?{re.escape(field)}["']?\s*[=.\]]""")
        lines = range(start, end)
        return 1 + next((n for n in lines if field and key.match(self._lines[n])), start)

    def _complaint(self, line: int, reason: str) -> SettingsError:
        return SettingsError(f"ENGINES_FILE: {self._path}, line {line}: {reason}.")


def _is_known(tag: str, engines: Sequence[Configured]) -> bool:
    """Return whether the tag is, or may be, a model of one of the engines."""
    known = {engine.settings.name: engine.settings.models for engine in engines}
    name, slash, model = tag.partition("/")
    if slash and name in known:
        return known[name] is None or model in (known[name] or ())
    return any(models is None or tag in models for models in known.values())
