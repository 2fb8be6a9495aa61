"""All engines behind one interface: chooses the model's engine, retries and falls back.

All of that happens before the first event of an attempt, which fixes the model.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import orjson
import tenacity

from chat_api.engines.catalogue import DIALECTS, Catalogue, Member, Place
from chat_api.engines.configuration import Configured
from chat_api.engines.engine import CannotContinue, Event, EventReceiver, Limits, Message, Request
from chat_api.errors import (
    ContextTooLong,
    EngineFailed,
    EngineOverloaded,
    EngineProtocol,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    ModelNotFound,
    ModelRefused,
)
from chat_api.settings import Settings
from chat_api.telemetry import (
    ENGINE_FALLBACKS,
    ENGINE_FIRST_EVENT_SECONDS,
    ENGINE_REQUESTS,
    ENGINE_RETRIES,
    log,
)

_MOST_ATTEMPTS = 4
# The longest time for retries of the first engine if there is a fallback.
_MOST_WAIT_BEFORE_FALLBACK = 3.0
_BACKOFF = tenacity.wait_exponential_jitter(multiplier=0.2, max=5, jitter=0.2)
# The fault of the request or of the configuration, which a fallback would not remove, or hide.
_FINAL = (EngineRefused, ContextTooLong)


class Receiver(EventReceiver, Protocol):
    """The receiver of an answer's events."""

    def written_by(self, model_tag: str | None, *, is_fallback: bool) -> None:
        """Take the tag of the model that writes; None if it is the one that was asked for."""


class Prompt(Protocol):
    """The messages for the model, which depend on the limits of the engine."""

    def messages_for(self, limits: Limits, context_tokens: int | None, /) -> list[Message]:
        """Return the messages for an engine with these limits and this size of context."""


@dataclass(slots=True)
class Order:
    """An answer to be written.

    `prompt` is let go of once the answer has begun: it may be long, and answers take minutes.
    `until` is when the first event has to be there, on the monotonic clock.
    """

    model_tag: str
    prompt: Prompt | None
    options: dict[str, Any]
    trace_id: str
    until: float
    beginning: str = ""


class Engines:
    """Every configured engine. Methods raise EngineFailed or one of its kinds."""

    def __init__(
        self, session: aiohttp.ClientSession, settings: Settings, configured: Sequence[Configured]
    ) -> None:
        self._session = session
        self._settings = settings
        self._catalogue = self._made(configured, {})

    def _made(self, configured: Sequence[Configured], kept: Mapping[str, Member]) -> Catalogue:
        members = []
        for one in configured:
            before = kept.get(one.settings.name)
            if before is not None and before.configured == one:
                members.append(before)
            else:
                engine = DIALECTS[one.settings.api](self._session, one, self._settings)
                members.append(Member(one, engine))
        return Catalogue(members, self._settings.default_model)

    def reload(self, configured: Sequence[Configured]) -> None:
        """Use a new configuration; unchanged engines keep their lists and breakers.

        Answers that are being written go on.
        """
        before = {member.name: member for member in self._catalogue.members}
        self._catalogue = self._made(configured, before)
        for member in before.values():
            if member not in self._catalogue.members:
                member.engine.close()
        log.info("engines_configured", engines=[member.name for member in self._catalogue.members])

    @property
    def max_message_chars(self) -> int | None:
        """Return the largest limit of a message of all engines; None for no limit."""
        limits = [member.engine.limits.message_chars for member in self._catalogue.members]
        return None if None in limits else max(limit for limit in limits if limit is not None)

    def api_of(self, model_tag: str) -> str:
        """Return the dialect of the engine that a model tag names, as far as that is known."""
        member = self._catalogue.only or self._catalogue.member(model_tag.partition("/")[0])
        return "unknown" if member is None else member.configured.settings.api

    def close(self) -> None:
        """Stop asking engines for their models."""
        self._catalogue.close()

    # --- models ---

    async def knows(self, model_tag: str, trace_id: str) -> bool:
        """Return whether there is, or may be, such a model."""
        return await self._catalogue.look_up(model_tag, trace_id) is not None

    async def list_models(self, trace_id: str) -> bytes:
        """Return the models as JSON. The list of a single samosaChaat engine is passed on
        unchanged."""
        only = self._catalogue.only
        if only is not None and only.takes_any_tag:
            raw = (await only.engine.list_models(trace_id)).raw
            if raw is None:
                raise EngineProtocol
            return raw
        return orjson.dumps(await self._catalogue.models(trace_id))

    async def swap(self, model_tag: str, trace_id: str) -> tuple[int, bytes]:
        """Make the model's engine load it; return the engine's status and JSON.

        Raise ModelRefused where it refuses.
        """
        only = self._catalogue.only
        if only is not None:
            member, name = only, model_tag
        else:
            engine_name, _, name = model_tag.partition("/")
            found = self._catalogue.member(engine_name)
            if found is None:
                raise ModelRefused(404)
            member = found
        reply = await member.engine.swap(name, trace_id)
        if reply.status >= 400:
            raise ModelRefused(reply.status)
        member.asked_at = None
        return reply.status, reply.body

    # --- generating ---

    async def can_continue(self, order: Order) -> bool:
        """Return whether the model can continue the order's beginning. False if unknown."""
        try:
            place = await self._catalogue.look_up(order.model_tag, order.trace_id)
            if place is None:
                return False
            return await place.member.engine.can_continue(_request(order, place))
        except EngineFailed:
            return False

    async def generate(self, order: Order, receiver: Receiver) -> str | None:
        """Generate an answer; return its finish reason, if the engine reports one.

        Cancelling it closes the request. A beginning is continued by its own model only; raises
        CannotContinue where that does not go on from it.
        """
        attempt = _Attempt(order, receiver)
        failure: EngineFailed | None = None
        places = await self._places(order)
        for index, place in enumerate(places):
            attempt.is_fallback = index > 0
            if index:
                ENGINE_FALLBACKS.labels(place.member.name).inc()
            try:
                return await self._write(order, place, attempt, is_last=index == len(places) - 1)
            except _FINAL:
                raise
            except EngineFailed as error:
                if attempt.has_begun:
                    raise
                failure = failure or error
        raise failure or ModelNotFound

    async def _places(self, order: Order) -> list[Place]:
        """Return the model's place, and those of its fallbacks."""
        first = await self._catalogue.look_up(order.model_tag, order.trace_id)
        if first is None:
            raise ModelNotFound
        tags = [] if order.beginning else first.member.configured.settings.fallback
        found = [await self._catalogue.look_up(tag, order.trace_id) for tag in tags]
        return [first, *(place for place in found if place is not None and place != first)]

    async def _write(
        self, order: Order, place: Place, attempt: "_Attempt", *, is_last: bool
    ) -> str | None:
        """Try one engine, with retries. Raise the error of the last try."""
        breaker = place.member.breaker
        wait = max(0.0, order.until - time.monotonic())
        if not is_last:
            wait = min(wait, _MOST_WAIT_BEFORE_FALLBACK)
        latest = time.monotonic() + wait
        try:
            try:
                return await self._try(place, attempt)
            except EngineFailed as error:
                if not _is_worth_another(error, place, attempt):
                    raise
                first = error
            return await self._try_again(place, attempt, first, latest)
        except EngineFailed as failure:
            if isinstance(failure, EngineUnavailable):
                place.member.asked_at = None  # its models are not available either
            if not attempt.has_begun and _is_breakdown(failure) and not attempt.is_refused:
                breaker.failed(by_timeout=_is_timeout(failure))
            raise
        except asyncio.CancelledError:
            # The writer gives up silent engines; that is the only sign of it here.
            if not attempt.has_begun and time.monotonic() >= order.until:
                breaker.failed(by_timeout=True)
            raise

    async def _try_again(
        self, place: Place, attempt: "_Attempt", failure: EngineFailed, latest: float
    ) -> str | None:
        """Ask an engine that has failed transiently again, until `latest`."""
        first: EngineFailed | None = failure

        async def try_again() -> str | None:
            nonlocal first
            if first is not None:  # counts as the first attempt
                failure, first = first, None
                raise failure
            return await self._try(place, attempt)

        wait = max(0.0, latest - time.monotonic())
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: _is_worth_another(error, place, attempt)
            ),
            wait=_pause,
            stop=tenacity.stop_after_attempt(_MOST_ATTEMPTS) | tenacity.stop_before_delay(wait),
            before_sleep=lambda _: ENGINE_RETRIES.labels(place.member.name).inc(),
            sleep=asyncio.sleep,
            reraise=True,
        )
        reason: str | None = await retrying(try_again)
        return reason

    async def _try(self, place: Place, attempt: "_Attempt") -> str | None:
        """Make one request to one engine."""
        member = place.member
        attempt.is_refused = not member.breaker.admit()
        if attempt.is_refused:
            ENGINE_REQUESTS.labels(member.name, "circuit_open").inc()
            raise EngineUnavailable
        outcome = "cancelled"
        try:
            reason = await member.engine.generate(attempt.begin(place), attempt)
            attempt.complete()
            outcome = "ok"
            return reason
        except EngineFailed as failure:
            outcome = failure.code
            raise
        except CannotContinue:
            outcome = "not_continued"
            raise
        finally:
            ENGINE_REQUESTS.labels(member.name, outcome).inc()


class _Attempt:
    """The state of one order: whether events have begun, and the model that writes."""

    def __init__(self, order: Order, receiver: Receiver) -> None:
        self.has_begun = False
        self.is_refused = False  # by the breaker
        self.is_fallback = False
        self._order = order
        self._receiver = receiver
        self._place: Place | None = None
        self._request: Request | None = None
        self._began = 0.0
        self._unseen: list[Event] = []  # the newest usage before the first event that is shown

    def begin(self, place: Place) -> Request:
        """Return the request to the model's engine."""
        self._place = place
        self._began = time.monotonic()
        self._unseen = []
        self._request = _request(self._order, place)
        return self._request

    def take(self, arrived: list[Event]) -> None:
        """Pass events on; the first shown one fixes the model."""
        if arrived and not self.has_begun:
            if not any(event.data for event in arrived):
                self._unseen, arrived = arrived, []
            else:
                self._settle()
        self._receiver.take(arrived)

    def take_token(self, data: bytes, text: str) -> None:
        """Pass a piece of text on."""
        if not self.has_begun:
            self._settle()
        self._receiver.take_token(data, text)

    def complete(self) -> None:
        """Note the end of the answer, and the model that wrote it, even if it is empty."""
        if not self.has_begun:
            self._settle()

    def _settle(self) -> None:
        """Fix the model, release the prompt, and pass on the usage that was kept back."""
        assert self._place is not None  # noqa: S101  # events come after `begin`
        self.has_begun = True
        self._order.prompt = None
        if self._request is not None:
            self._request.messages.clear()
        member = self._place.member
        member.breaker.succeeded()
        ENGINE_FIRST_EVENT_SECONDS.labels(member.name).observe(time.monotonic() - self._began)
        self._receiver.written_by(self._place.tag, is_fallback=self.is_fallback)
        if self._unseen:
            self._receiver.take(self._unseen)


def _request(order: Order, place: Place) -> Request:
    assert order.prompt is not None  # noqa: S101  # nothing is asked after the first event
    return Request(
        model=place.model,
        messages=order.prompt.messages_for(place.member.engine.limits, place.context_tokens),
        trace_id=order.trace_id,
        options=order.options,
        beginning=order.beginning,
    )


def _is_worth_another(error: BaseException, place: Place, attempt: _Attempt) -> bool:
    """Return whether the same engine may be asked again after the error."""
    return (
        isinstance(error, EngineFailed)
        and error.transient
        and not attempt.has_begun
        and place.member.breaker.allows_retries
    )


def _is_breakdown(failure: EngineFailed) -> bool:
    """Return whether the failure means that the engine is down, not busy or refusing."""
    return not isinstance(failure, (*_FINAL, EngineOverloaded, ModelNotFound))


def _is_timeout(failure: EngineFailed) -> bool:
    """Return whether it took a whole timeout to fail: to connect, or in a proxy."""
    return isinstance(failure, EngineTimeout) or failure.was_slow


def _pause(state: tenacity.RetryCallState) -> float:
    """Return how long to wait: the engine's `Retry-After`, but at least the backoff."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after if isinstance(error, EngineFailed) else None
    return _BACKOFF(state) + (asked or 0.0)
