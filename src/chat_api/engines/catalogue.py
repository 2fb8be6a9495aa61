"""The configured engines and their lists of models."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import aiohttp

from chat_api.engines import openai, samosachaat
from chat_api.engines.breaker import Breaker
from chat_api.engines.configuration import Configured
from chat_api.engines.engine import MOST_NAME_CHARS, Engine, ModelInfo
from chat_api.errors import EngineFailed
from chat_api.settings import Settings
from chat_api.telemetry import ENGINE_CIRCUIT_OPEN, log

DIALECTS: dict[str, Callable[[aiohttp.ClientSession, Configured, Settings], Engine]] = {
    "openai": openai.make_engine,
    "samosachaat": samosachaat.make_engine,
}
DEFAULT = "default"
# The maximum age of a list that is shown, and of one in which a model is looked up.
_SHOWN_SECONDS = 5.0
_FRESH_SECONDS = 60.0
# How long a request waits for engines to list their models.
_PATIENCE_SECONDS = 2.0


class Member:
    """One engine of the catalogue, with its list of models and its breaker."""

    def __init__(self, configured: Configured, engine: Engine) -> None:
        self.configured = configured
        self.name = configured.settings.name
        self.engine = engine
        self.breaker = Breaker(self._notice)
        names = configured.settings.models
        self.models = None if names is None else tuple(ModelInfo(name, name) for name in names)
        """None: not known."""
        self.answers: bool | None = None
        self.asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    @property
    def takes_any_tag(self) -> bool:
        """Return whether it answers with the model it has loaded, whatever the tag."""
        return self.engine.takes_any_tag

    def _notice(self, is_open: bool) -> None:
        ENGINE_CIRCUIT_OPEN.labels(self.name).set(is_open)
        log.warning("engine_circuit", engine=self.name, is_open=is_open)

    def is_older_than(self, seconds: float) -> bool:
        return self.asked_at is None or time.monotonic() - self.asked_at > seconds

    def ask(self, trace_id: str) -> "asyncio.Task[None]":
        """Update the list; simultaneous callers share one request."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(trace_id), name=f"models-{self.name}")
        return self._asking

    async def _ask(self, trace_id: str) -> None:
        try:
            listing = await self.engine.list_models(trace_id)
        except EngineFailed as failure:
            log.warning("engine_models_unknown", engine=self.name, code=failure.code)
            self.answers = False
        else:
            self.answers = True
            self._take(listing.models)
        self.asked_at = time.monotonic()

    def _take(self, listed: Sequence[ModelInfo]) -> None:
        configured = self.configured.settings.models
        by_name: dict[str, ModelInfo] = {}
        for model in listed:
            by_name.setdefault(model.name, model)
        if configured is not None:
            self.models = tuple(
                by_name.get(name) or ModelInfo(name, name, available=not listed)
                for name in configured
            )
        elif listed or self.takes_any_tag:
            self.models = tuple(by_name.values())

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self.engine.close()


@dataclass(frozen=True, slots=True)
class Place:
    """A model and its engine. `tag` is its model_tag; None keeps the requested one."""

    member: Member
    model: str
    tag: str | None
    context_tokens: int | None = None


class Catalogue:
    """The engines and their models. A model_tag is `engine/model`, or the model where it is one's.

    Lists are asked for when they are needed, and kept; an engine that does not answer keeps the
    list that it had.
    """

    def __init__(self, members: Sequence[Member], default_model: str) -> None:
        self.members = tuple(members)
        self._default = default_model

    @property
    def only(self) -> Member | None:
        """Return the engine if there is only one, otherwise None."""
        return self.members[0] if len(self.members) == 1 else None

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)

    def find(self, tag: str) -> Place | None:
        """Return the place of the model by the current lists."""
        if tag in {DEFAULT, ""}:
            if not self._default:
                return self._first()
            tag = self._default
        for member in self.members:
            if tag.startswith(member.name + "/"):
                name = tag[len(member.name) + 1 :]
                if place := self._at(member, name):
                    return place
        if self.only is not None and self.only.takes_any_tag:
            return Place(self.only, "", None)
        having = [m for m in self.members if any(model.name == tag for model in m.models or ())]
        if len(having) == 1:
            return self._at(having[0], tag)
        silent = [member for member in self.members if member.models is None]
        if not having and silent:
            return self._at(silent[0], tag)
        return None

    async def look_up(self, tag: str, trace_id: str) -> Place | None:
        """Return the place of the model; engines with an unknown or old list are asked first."""
        unknown = [m for m in self.members if m.asked_at is None and not self._is_settled(m)]
        await _asked(unknown, trace_id)
        for member in self.members:
            if member.is_older_than(_FRESH_SECONDS) and not self._is_settled(member):
                member.ask(trace_id)
        place = self.find(tag)
        if place is None:
            await _asked([m for m in self.members if m.is_older_than(_SHOWN_SECONDS)], trace_id)
            place = self.find(tag)
        return place

    async def models(self, trace_id: str) -> dict[str, object]:
        """Return all engines' models, in the shape of the inference service's `GET /models`."""
        await _asked([m for m in self.members if m.is_older_than(_SHOWN_SECONDS)], trace_id)
        first = self.find(DEFAULT)
        return {
            "current_model": None if first is None else first.tag,
            "models": [entry for member in self.members for entry in self._entries(member)],
        }

    def close(self) -> None:
        """Cancel requests for lists, and close the engines."""
        for member in self.members:
            member.close()

    def _is_settled(self, member: Member) -> bool:
        """Return whether its list cannot change where a model is looked for."""
        return member is self.only and member.takes_any_tag

    def _first(self) -> Place | None:
        """Return the first model, of an unreachable engine only if no other has one."""
        for member in sorted(self.members, key=lambda member: member.answers is False):
            if member is self.only and member.takes_any_tag:
                return Place(member, "", None)
            models = sorted(member.models or (), key=lambda model: not model.loaded)
            if models:
                return self._at(member, models[0].name)
        return self._at(self.members[0], "")

    def _at(self, member: Member, name: str) -> Place | None:
        model = next((model for model in member.models or () if model.name == name), None)
        if model is None:
            if member.models is not None and not member.takes_any_tag:
                return None
            model = ModelInfo(name, name)
        if member.takes_any_tag:
            model = next((loaded for loaded in member.models or () if loaded.loaded), model)
        tokens = model.context_tokens or member.configured.settings.context_tokens
        return Place(member, model.id, self._tag(member, model.name), tokens)

    def _tag(self, member: Member, name: str) -> str:
        return name if self.only is not None else f"{member.name}/{name}"

    def _entries(self, member: Member) -> Iterable[dict[str, object]]:
        if not member.models:
            if member.answers is False:
                yield _entry(member.name, member, ModelInfo("", ""))
            return
        for model in member.models:
            tag = self._tag(member, model.name)
            if len(tag) <= MOST_NAME_CHARS:
                yield _entry(tag, member, model)


def _entry(tag: str, member: Member, model: ModelInfo) -> dict[str, object]:
    answers = member.answers is not False
    return {
        "model_tag": tag,
        "source": member.name,
        "path": model.path,
        "available": answers and model.available,
        "loaded": answers and model.loaded and model.available,
    }


async def _asked(members: Sequence[Member], trace_id: str) -> None:
    """Wait up to `_PATIENCE_SECONDS` for these engines' lists."""
    if members:
        tasks = [member.ask(trace_id) for member in members]
        await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
        for member, task in zip(members, tasks, strict=True):
            if not task.done():
                member.answers = False
