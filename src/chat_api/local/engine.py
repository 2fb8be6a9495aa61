"""One loaded model: a llama.cpp server in a process of its own, and its client."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from chat_api.local.errors import LocalError
from chat_api.local.models import Model
from chat_api.local.process import KeptProcess
from chat_api.local.prompt import Message, fit

_STOP_STEPS = ((signal.SIGTERM, 3.0),)
# Small models tend to repeat themselves.
_REPEAT_PENALTY = 1.1
# The part of the context that is kept for the prompt, whatever the answer may take.
_LEAST_PROMPT_SHARE = 0.5


class EngineFailed(LocalError):
    """The model's process has ended or has refused a request."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is written. `temperature` 0 takes the likeliest token, `top_k` 0 any."""

    temperature: float = 0.2  # a small model writes nonsense above that
    max_tokens: int = 512
    top_k: int = 50


class Engine:
    """A model in memory, answering several conversations at once. An async context manager."""

    def __init__(self, model: Model, *, slots: int, context_tokens: int) -> None:
        self.model = model
        self.context_tokens = context_tokens
        self._slots = slots
        self._key = secrets.token_hex(16)
        self._process: KeptProcess | None = None
        self._session: aiohttp.ClientSession | None = None
        self._answers = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Load the model. Raise EngineFailed, with nothing left running."""
        spec = {
            "path": str(self.model.path),
            "chat_template": self.model.chat_template,
            "slots": self._slots,
            "context_tokens": self.context_tokens,
        }
        reading, writing = os.pipe()
        with open(reading, encoding="ascii") as announced:  # noqa: ASYNC230, PTH123  # a pipe
            try:
                self._process = KeptProcess(
                    [sys.executable, "-P", "-m", "chat_api.local.llama", json.dumps(spec)],
                    env=os.environ | {"LLAMA_KEY": self._key},
                    output=writing,
                    errors=None,
                    stop_steps=_STOP_STEPS,
                )
            finally:
                os.close(writing)
            try:
                address = (await asyncio.to_thread(announced.readline)).strip()
            except asyncio.CancelledError:
                self._process.stop()  # or the thread would read on, and hold up the way out
                raise
        if not address:
            await self.stop()
            raise EngineFailed(f"The model {self.model.tag} cannot be loaded; see the log.")
        self._session = aiohttp.ClientSession(
            address,
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=aiohttp.ClientTimeout(total=None),
            # llama.cpp closes idle connections, at times just when one is taken up again.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
        )

    async def stop(self) -> None:
        """Unload the model, cutting off its answers. Idempotent."""
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)

    async def drain(self) -> None:
        """Wait until no answer runs."""
        await self._idle.wait()

    def has_ended(self) -> bool:
        """Return whether the process has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    async def busy_slots(self) -> int:
        """Return how many answers llama.cpp is working on. Raise EngineFailed."""
        try:
            async with self._http.get("/slots") as response:
                return sum(slot["is_processing"] for slot in await response.json())
        except aiohttp.ClientError as error:
            raise EngineFailed(f"llama.cpp cannot be reached: {error}") from error

    @contextlib.asynccontextmanager
    async def answer(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncIterator[AsyncIterator[str]]:
        """Write an answer: the block gets its pieces as they arrive; leaving it stops the answer.

        Raise EngineFailed at the start, or from the pieces.
        """
        async with self._answering():
            room = max(
                int(self.context_tokens * _LEAST_PROMPT_SHARE),
                self.context_tokens - sampling.max_tokens,
            )
            body = {
                "messages": [asdict(message) for message in await self._fitted(messages, room)],
                "temperature": sampling.temperature,
                "max_tokens": sampling.max_tokens,
                "top_k": sampling.top_k,
                "repeat_penalty": _REPEAT_PENALTY,
                "reasoning_format": "none",  # here, all that the model writes is text
                "stream": True,
                # While it reads the prompt llama.cpp notices that a client has gone only when it
                # has something to send; this makes it send something after every batch.
                "return_progress": True,
            }
            async with self._http.post("/v1/chat/completions", json=body) as response:
                if response.status != 200:
                    raise EngineFailed(f"llama.cpp answers {response.status}")
                yield _pieces(response.content)

    @contextlib.asynccontextmanager
    async def forward(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Pass a request on to llama.cpp's own server: the block gets its response.

        A chat without a sampling of its own gets this model's. Raise EngineFailed.
        """
        async with self._answering():
            if body is not None and path == "/v1/chat/completions":
                body = {
                    "temperature": Sampling.temperature,
                    "repeat_penalty": _REPEAT_PENALTY,
                    "return_progress": True,
                    **body,
                }
            async with self._http.request(method, path, json=body) as response:
                yield response

    @contextlib.asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Count an answer while the block runs. Raise EngineFailed if llama.cpp is unreachable."""
        self._answers += 1
        self._idle.clear()
        try:
            yield
        except aiohttp.ClientError as error:
            raise EngineFailed(f"llama.cpp cannot be reached: {error}") from error
        finally:
            self._answers -= 1
            if self._answers == 0:
                self._idle.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise EngineFailed(f"The model {self.model.tag} is not loaded.")
        return self._session

    async def _fitted(self, messages: Sequence[Message], room: int) -> list[Message]:
        """Return the newest messages that fit, by the model's own template and count."""
        budget = room
        while True:
            fitted = await fit(messages, budget, self._count)
            over = await self._prompt_tokens(fitted) - room
            if over <= 0 or budget <= over:
                return fitted
            budget -= over

    async def _prompt_tokens(self, messages: Sequence[Message]) -> int:
        body = {"messages": [asdict(message) for message in messages]}
        return await self._count((await self._json("/apply-template", body))["prompt"])

    async def _count(self, text: str) -> int:
        return len((await self._json("/tokenize", {"content": text}))["tokens"])

    async def _json(self, path: str, body: dict[str, Any]) -> Any:
        async with self._http.post(path, json=body) as response:
            if response.status != 200:
                raise EngineFailed(f"llama.cpp answers {response.status} to {path}")
            return await response.json()


async def _pieces(lines: aiohttp.StreamReader) -> AsyncIterator[str]:
    """Yield the texts of chat completion chunks. Raise EngineFailed unless the stream is whole."""
    async for line in lines:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            return
        chunk = json.loads(line[len(b"data: ") :])
        if "error" in chunk:
            raise EngineFailed(f"llama.cpp gave up: {chunk['error'].get('message')}")
        for choice in chunk.get("choices", ()):
            if text := choice["delta"].get("content"):
                yield text
    raise EngineFailed("llama.cpp ended in the middle of an answer")
