"""A scripted engine with OpenAI's Chat Completions API, which does what the test says.

    engine.default = ChatScript().tokens("Hel", "lo").finish().done()
    engine.once(ChatScript().status(503))
    call = await engine.call(0)

Scripts are those of the scripted inference service, with this dialect's events.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from tests.support.gates import Gate
from tests.support.inference import PLAIN, Call, Script, event
from tests.support.waiting import eventually
from tests.support.wire import Wire, WireRequest, WireServer

USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}


def chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a stream."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "scripted",
        "choices": [choice],
        **more,
    }


class ChatScript(Script):
    """What to answer to one call of `/chat/completions`, step by step."""

    def tokens(self, *texts: str, **extra: Any) -> Self:
        """Send a chunk for each text."""
        for text in texts:
            self.raw(event(chunk({"content": text, **extra})))
        return self

    def reasoning(self, *texts: str) -> Self:
        """Send a chunk for each piece of reasoning."""
        for text in texts:
            self.raw(event(chunk({"reasoning_content": text})))
        return self

    def finish(self, reason: str = "stop") -> Self:
        """Send the chunk with the finish reason."""
        return self.raw(event(chunk({}, reason)))

    def usage(self, usage: Mapping[str, Any] = USAGE) -> Self:
        """Send the chunk with the usage."""
        return self.raw(event({**chunk({}), "choices": [], "usage": dict(usage)}))

    def done(self, **extra: Any) -> Self:
        """Send the line that ends a stream."""
        return self.raw(b"data: [DONE]\n\n")

    def error(self, status: int, **error: Any) -> Self:
        """Refuse, as OpenAI does."""
        body = event({"error": error})[len(b"data: ") :].strip()
        return self.status(status, body, content_type="application/json")


def plain_chat() -> ChatScript:
    """What an engine without a script answers."""
    return ChatScript().tokens(*PLAIN).finish().usage().done()


class OpenAIEngineServer(WireServer):
    """The scripted engine. `url` is what INFERENCE_SERVICE_URL wants."""

    name = "openai-engine"

    def __init__(self, key: str | None = None) -> None:
        super().__init__()
        self.key = key
        self.calls: list[Call] = []
        """The calls of `/chat/completions`, oldest first."""
        self.others: list[Call] = []
        self.default: ChatScript
        self.models: tuple[int, bytes | dict[str, Any] | list[Any]]
        self.template: tuple[int, bytes | dict[str, Any] | list[Any]]
        self.props: tuple[int, bytes | dict[str, Any] | list[Any]]
        self.reset()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def reset(self) -> None:
        """Forget calls and scripts: as at the start."""
        self.default = plain_chat()
        self._once: deque[ChatScript] = deque()
        self.calls.clear()
        self.others.clear()
        self.lists("small")
        self.template = self.props = (404, {"error": {"message": "no such path"}})
        self.models_gate: Gate | None = None

    def lists(self, *models: str, **fields: Any) -> None:
        """What `/models` answers."""
        data = [{"id": model, "object": "model", **fields} for model in models]
        self.models = (200, {"object": "list", "data": data})

    def once(self, *scripts: ChatScript) -> None:
        """Play these for the next calls, one each."""
        self._once.extend(scripts)

    async def call(self, index: int = -1, timeout: float = 15) -> Call:
        """The call with this number, as soon as it is there; -1 is the newest of at least one."""
        needed = index + 1 if index >= 0 else -index
        await eventually(
            lambda: len(self.calls) >= needed, timeout, what=f"{needed} calls of the engine"
        )
        return self.calls[index]

    async def answer(self, request: WireRequest, wire: Wire) -> None:
        """Answer one request (runs in the server's thread)."""
        body = request.json() if request.body else None
        call = Call(request.method, request.path, request.headers, body, wire.gone)
        try:
            await self._answer(request, call, wire)
            call.completed = True
        finally:
            call.ended.open()

    async def _answer(self, request: WireRequest, call: Call, wire: Wire) -> None:
        bearer = f"Bearer {self.key}" if self.key else None
        if request.headers.get("authorization") != bearer:
            self.others.append(call)
            await wire.respond(401, {"error": {"message": "wrong key", "code": "invalid_api_key"}})
        elif (request.method, request.path) == ("POST", "/v1/chat/completions"):
            self.calls.append(call)
            script = self._once.popleft() if self._once else self.default
            await script.perform(call, wire)
        else:
            self.others.append(call)
            if self.models_gate is not None and request.path == "/v1/models":
                await self.models_gate.wait(60)
            status, answer = {
                "/v1/models": self.models,
                "/props": self.props,
                "/apply-template": self.template,
            }.get(request.path, (404, {"error": {"message": "no such path"}}))
            await wire.respond(status, answer)
