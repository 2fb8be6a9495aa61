"""The local inference service: `python -m chat_api.local.inference --port 8000`.

`POST /generate` `{"messages": [{"role", "content"}], "temperature", "max_tokens", "top_k"}` gives
server-sent events: `data: {"token": "Hel", "gpu": 0}` …, then `data: {"done": true}`; an answer
that breaks off ends without that. `GET /models`, `POST /models/swap` `{"model_tag"}`; all three
want `X-Internal-API-Key` (403). `GET /health`: 503 until a model is loaded.

The same model in OpenAI's dialect, as llama.cpp itself speaks it: `POST /v1/chat/completions`,
`GET /v1/models`, and llama.cpp's own `GET /props` and `POST /apply-template`. The key goes into
`Authorization: Bearer` there (401).

A swap loads the new model beside the old one, and only then lets it take over: until then, and if
that fails, the old one answers. It finishes its running answers.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from chat_api.local import web
from chat_api.local.engine import Engine, EngineFailed, Sampling
from chat_api.local.errors import LocalError
from chat_api.local.models import Model, ModelFolder
from chat_api.local.prompt import Message
from chat_api.local.settings import LocalSettings, load_local_settings

_MESSAGE_CHARS = 8_000
_REQUEST_CHARS = 32_000
_WATCH_SECONDS = 0.5


class _Turn(BaseModel):
    model_config = ConfigDict(strict=True)

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=_MESSAGE_CHARS)]


class _Generate(BaseModel):
    """The body of /generate. A null counts as a missing option."""

    model_config = ConfigDict(strict=True)

    messages: Annotated[list[_Turn], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    top_k: Annotated[int, Field(ge=0, le=200)] | None = None

    def conversation(self) -> list[Message]:
        return [Message(turn.role, turn.content) for turn in self.messages]

    def sampling(self) -> Sampling:
        chosen = self.model_dump(include={"temperature", "max_tokens", "top_k"}, exclude_none=True)
        return Sampling(**chosen)


def _read_generate(body: dict[str, Any]) -> _Generate:
    try:
        request = _Generate.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise web.Refused(400, f"{where}: {problem['msg']}") from None
    if sum(len(turn.content) for turn in request.messages) > _REQUEST_CHARS:
        raise web.Refused(400, f"the messages exceed {_REQUEST_CHARS} characters")
    return request


class Inference:
    """The loaded model and its replacement by another. An async context manager."""

    def __init__(self, settings: LocalSettings) -> None:
        self.models = ModelFolder(settings.model_dir)
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when no model can be loaded."""
        self._settings = settings
        self._first = self.models.find(settings.local_model)
        self._current: Engine | None = None
        self._loaded = asyncio.Event()
        self._swapping = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._tasks = {asyncio.create_task(self._keep_loaded(), name="model")}
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._current is not None:
            await self._current.stop()

    @property
    def current(self) -> Model | None:
        """Return the model that answers now; None before the first one is loaded."""
        return None if self._current is None else self._current.model

    async def busy_slots(self) -> int:
        """Return how many answers the model is working on."""
        return 0 if self._current is None else await self._current.busy_slots()

    async def engine(self) -> Engine:
        """Return the engine for a new answer, waiting while the first one loads."""
        await self._loaded.wait()
        if self._current is None:
            raise EngineFailed("No model is loaded.")
        return self._current

    async def swap(self, model: Model) -> None:
        """Replace the model by `model`. Raise EngineFailed; the old one then stays."""
        await self._loaded.wait()
        async with self._swapping:
            if self._current is not None and self._current.model == model:
                return
            new = await self._started(model)
            old, self._current = self._current, new
            if old is not None:
                task = asyncio.create_task(_retire(old), name=f"retire {old.model.tag}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _started(self, model: Model) -> Engine:
        engine = Engine(
            model,
            slots=self._settings.local_slots,
            context_tokens=self._settings.local_context_tokens,
        )
        await engine.start()
        return engine

    async def _keep_loaded(self) -> None:
        """Load the first model, then watch over the current one."""
        try:
            self._current = await self._started(self._first)
            self._loaded.set()
            while not self._current.has_ended():  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(_WATCH_SECONDS)
            self.failed.set_result(f"The model {self._current.model.tag} has ended by itself.")
        except EngineFailed as error:
            self.failed.set_result(str(error))


async def _retire(engine: Engine) -> None:
    """End an engine after its last answer."""
    try:
        await engine.drain()
    finally:
        await engine.stop()


class _Streamed(ABC):
    """A response as it is written: an ASGI application.

    Not Starlette's StreamingResponse: that notices a client's leaving only when there is something
    to send, and while the model reads a long prompt there is nothing.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing = asyncio.create_task(self._write(scope, receive, send), name="answer")
        leaving = asyncio.create_task(_left(receive), name="client")
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, leaving):
                task.cancel()
            results = await asyncio.gather(writing, leaving, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    @abstractmethod
    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the response, unless the client leaves before."""


class _Forwarded(_Streamed):
    """The unchanged response of llama.cpp's own server."""

    def __init__(
        self, engine: Engine, method: str, path: str, body: dict[str, Any] | None = None
    ) -> None:
        self._engine = engine
        self._request = (method, path, body)

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with self._engine.forward(*self._request) as response:
                kind = response.headers.get("content-type", "application/json")
                headers = [(b"content-type", kind.encode("latin-1"))]
                await send(
                    {"type": "http.response.start", "status": response.status, "headers": headers}
                )
                started = True
                async for piece in response.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except EngineFailed as error:
            sys.stderr.write(f"{error}\n")
            if not started:
                body = {"error": {"message": str(error), "type": "unavailable_error", "code": 503}}
                await JSONResponse(body, 503)(scope, receive, send)
                return
            raise  # a normal close would look like the end
        await send({"type": "http.response.body", "body": b""})


class _Answer(_Streamed):
    """The response to /generate."""

    def __init__(self, engine: Engine, request: _Generate) -> None:
        self._engine = engine
        self._request = request

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with self._engine.answer(
                self._request.conversation(), self._request.sampling()
            ) as pieces:
                headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                started = True
                async for piece in pieces:
                    await send(_event({"token": piece, "gpu": 0}))
                await send(_event({"done": True}))
        except EngineFailed as error:
            sys.stderr.write(f"{error}\n")
            if not started:
                await JSONResponse({"detail": str(error)}, 503)(scope, receive, send)
                return
        await send({"type": "http.response.body", "body": b""})


def _event(data: dict[str, Any]) -> AsgiMessage:
    body = (
        b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
    )
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _openai_routes(inference: Inference, internal_key: str) -> list[Route]:
    """Return the routes of the model in OpenAI's dialect."""

    async def forward(request: Request) -> _Forwarded:
        web.require_bearer(request, internal_key)
        body = await web.json_object(request) if request.method == "POST" else None
        return _Forwarded(await inference.engine(), request.method, request.url.path, body)

    async def models(request: Request) -> JSONResponse:
        web.require_bearer(request, internal_key)
        engine = await inference.engine()
        model = {
            "id": engine.model.tag,
            "object": "model",
            "owned_by": "llamacpp",
            "meta": {"n_ctx": engine.context_tokens},
        }
        return JSONResponse({"object": "list", "data": [model]})

    return [
        Route("/v1/models", models),
        Route("/v1/chat/completions", forward, methods=["POST"]),
        Route("/props", forward),
        Route("/apply-template", forward, methods=["POST"]),
    ]


def create_inference_app(inference: Inference, internal_key: str) -> Starlette:
    """Return the service around `inference`, which the caller enters and leaves."""

    async def generate(request: Request) -> _Answer | JSONResponse:
        web.require_key(request, internal_key)
        body = _read_generate(await web.json_object(request))
        return _Answer(await inference.engine(), body)

    async def models(request: Request) -> JSONResponse:
        web.require_key(request, internal_key)
        current = inference.current
        listed = [
            {
                "model_tag": model.tag,
                "source": model.source,
                "path": str(model.path),
                "available": model.available,
                "loaded": model == current,
            }
            for model in inference.models.models()
        ]
        tag = None if current is None else current.tag
        return JSONResponse({"current_model": tag, "models": listed})

    async def swap(request: Request) -> JSONResponse:
        web.require_key(request, internal_key)
        tag = (await web.json_object(request)).get("model_tag")
        if not isinstance(tag, str):
            raise web.Refused(400, "model_tag must be a text")
        try:
            model = inference.models.find(tag)
        except LocalError as error:
            raise web.Refused(404, str(error)) from None
        try:
            await inference.swap(model)
        except EngineFailed as error:
            raise web.Refused(500, f"{error} The previous model stays loaded.") from None
        return JSONResponse({"status": "ok", "current_model": tag})

    async def health(_: Request) -> JSONResponse:
        current = inference.current
        if current is None:
            return JSONResponse({"status": "loading", "service": "inference"}, 503)
        try:
            answers = await inference.busy_slots()
        except EngineFailed as error:
            raise web.Refused(503, str(error)) from None
        body = {"status": "ok", "service": "inference", "model": current.tag, "answers": answers}
        return JSONResponse(body)

    return Starlette(
        routes=[
            Route("/generate", generate, methods=["POST"]),
            Route("/models", models),
            Route("/models/swap", swap, methods=["POST"]),
            Route("/health", health),
            *_openai_routes(inference, internal_key),
        ],
        exception_handlers={web.Refused: web.refuse},
    )


def _set(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)


async def _serve(settings: LocalSettings, port: int) -> int:
    key = web.internal_key()
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        # For a signal before uvicorn takes over, and the one that uvicorn raises again at its end:
        # by default they would end the process without a clean-up.
        loop.add_signal_handler(number, _set, told)
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(web.listen(port))
        inference = await stack.enter_async_context(Inference(settings))
        server = web.make_server(create_inference_app(inference, key))
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
        ends: set[asyncio.Future[Any]] = {serving, inference.failed, told}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        if inference.failed.done():
            sys.stderr.write(f"{inference.failed.result()}\n")
            return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chat_api.local.inference")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    try:
        return asyncio.run(_serve(load_local_settings(), options.port))
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
