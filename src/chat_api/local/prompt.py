"""Cutting a conversation to a model's context and its chat template."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

# What a template may put around each message; SmolLM2's takes five tokens.
_TOKENS_AROUND = 16


@dataclass(frozen=True)
class Message:
    role: str
    content: str


async def fit(
    messages: Sequence[Message], tokens: int, count: Callable[[str], Awaitable[int]]
) -> list[Message]:
    """Return the newest messages that fit into so many tokens; `count` counts a text's tokens.

    Neighbours of one role become one message, and answers without a question in front are left
    out: many templates refuse both. If even the newest message is too long, its end is kept.
    """
    kept: list[Message] = []
    left = tokens
    for message in reversed(messages):
        # A token is at least one byte, so short texts need no counting.
        size = len(message.content.encode())
        if size + _TOKENS_AROUND > left:
            size = await count(message.content)
        left -= size + _TOKENS_AROUND
        if left < 0:
            break
        kept.append(message)
    if not kept:
        return [await _end_of(messages[-1], tokens - _TOKENS_AROUND, count)]
    kept.reverse()
    while len(kept) > 1 and kept[0].role == "assistant":
        kept.pop(0)
    return _alternating(kept)


def _alternating(messages: Sequence[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            content = f"{joined[-1].content}\n\n{message.content}"
            joined[-1] = replace(joined[-1], content=content)
        else:
            joined.append(message)
    return joined


async def _end_of(message: Message, tokens: int, count: Callable[[str], Awaitable[int]]) -> Message:
    content = message.content
    while (size := await count(content)) > tokens and len(content) > 1:
        # In proportion, and a little less, so that it takes few rounds.
        content = content[-max(1, len(content) * tokens * 9 // (size * 10)) :]
    return replace(message, content=content)
