"""The messages of a request to an engine: the history, cut to the budgets. Pure functions."""

from collections.abc import Sequence

from chat_api.db.generations import Turn
from chat_api.engines.engine import Limits
from chat_api.text import is_blank

_BETWEEN = "\n\n"
# Of the model's context, what the answer gets where its length is not limited, and what is
# kept free because tokens are estimated.
_ANSWER_SHARE = 4
_MOST_ANSWER_TOKENS = 4096
_RESERVE = 1.1
# UTF-8 bytes of a token where the engine has counted none. English has about 4, source code 3.
_BYTES_PER_TOKEN = 3.0


class Context:
    """The messages that an answer is to follow, oldest first, ending with the newest.

    `prompt` is the system prompt. `max_tokens` is how long the answer may become, if that is known.
    """

    def __init__(
        self,
        history: Sequence[Turn],
        *,
        prompt: str,
        most_messages: int,
        most_chars: int,
        max_tokens: int | None = None,
    ) -> None:
        self._history = history
        self._prompt = prompt
        self._most_messages = most_messages
        self._most_chars = most_chars
        self._max_tokens = max_tokens

    def messages_for(self, limits: Limits, context_tokens: int | None) -> list[dict[str, str]]:
        """Return the messages of a request to an engine with these limits.

        The newest message is always sent, older ones if they fit the budgets: the number of
        messages, and tokens if the engine has counted those of earlier messages and the size of the
        model's context is known, otherwise characters.
        """
        if limits.takes_system:
            return self._as_they_are(context_tokens)
        return build_context(
            self._history,
            prompt=self._prompt,
            most_messages=self._most_messages,
            most_chars=self._most_chars,
            message_chars=limits.message_chars,
            request_chars=limits.request_chars,
        )

    def _as_they_are(self, context_tokens: int | None) -> list[dict[str, str]]:
        sizes, room = self._budget(context_tokens)
        chosen: list[dict[str, str]] = []
        is_cut = False
        for turn, size in zip(reversed(self._history), reversed(sizes), strict=True):
            if is_blank(turn.content):
                continue
            room -= size
            is_cut = bool(chosen) and (room < 0 or len(chosen) == self._most_messages)
            if is_cut:
                break
            chosen.append({"role": turn.role, "content": turn.content})
        while is_cut and len(chosen) > 1 and chosen[-1]["role"] == "assistant":
            chosen.pop()  # an answer without its question
        if self._prompt:
            chosen.append({"role": "system", "content": self._prompt})
        chosen.reverse()
        return chosen

    def _budget(self, context_tokens: int | None) -> tuple[list[float], float]:
        """Return the size of each message, and the limit of their sum."""
        if context_tokens is None or not any(turn.output_tokens for turn in self._history):
            return [float(len(turn.content)) for turn in self._history], float(
                self._most_chars - len(self._prompt)
            )
        sizes = token_sizes(self._history)
        answer = self._max_tokens or min(_MOST_ANSWER_TOKENS, context_tokens // _ANSWER_SHARE)
        prompt = len(self._prompt.encode()) / _BYTES_PER_TOKEN
        return sizes, context_tokens / _RESERVE - min(answer, context_tokens / 2) - prompt


def token_sizes(history: Sequence[Turn]) -> list[float]:
    """Return the tokens of each message, with what a chat template puts around it.

    An answer's are known where its engine has counted them. The messages before it are what its
    input cost more than everything up to the answer before; others are estimated at the ratio of
    bytes to tokens that was counted last.
    """
    sizes: list[float | None] = [None] * len(history)
    ratio = _BYTES_PER_TOKEN
    known_upto, before = 0, 0.0  # everything before that index cost so much in all
    for index, turn in enumerate(history):
        if not turn.output_tokens:
            continue
        written = len(turn.content.encode())
        # Reasoning is counted by the engine, but is not sent back.
        thought = turn.reasoning_bytes
        own = turn.output_tokens * written / max(1, written + thought)
        if written and not thought:
            ratio = max(1.0, written / turn.output_tokens)
        sizes[index] = own
        if known_upto and turn.input_tokens and turn.input_tokens > before:
            between = range(known_upto, index)
            if len(between) == 1:
                sizes[between[0]] = turn.input_tokens - before
        known_upto, before = index + 1, (turn.input_tokens or 0) + own
    return [
        size if size is not None else len(turn.content.encode()) / ratio + 4
        for turn, size in zip(history, sizes, strict=True)
    ]


def build_context(
    history: Sequence[Turn],
    *,
    prompt: str,
    most_messages: int,
    most_chars: int,
    message_chars: int | None,
    request_chars: int | None,
) -> list[dict[str, str]]:
    """Return the messages for an engine without a system role.

    There are at most `most_messages` of them and `most_chars` characters in all. Roles alternate
    and the first is the user's: neighbours of one role are joined by a blank line, an answer
    without its question is left out. `prompt` goes in front of the first user message. A message
    above the engine's limit keeps its end, where the newest text is.
    """
    if request_chars is not None:
        most_chars = min(most_chars, request_chars)
    if message_chars is None:
        message_chars = most_chars
    room = most_chars - (len(prompt) + len(_BETWEEN) if prompt else 0)
    chosen: list[tuple[str, str]] = []
    for turn in reversed(history):
        role, content = turn.role, turn.content[-message_chars:]
        if role not in {"user", "assistant"} or is_blank(content):
            continue
        joins = bool(chosen) and chosen[-1][0] == role
        room -= len(content) + (len(_BETWEEN) if joins else 0)
        if chosen and (room < 0 or len(chosen) == most_messages):
            break
        chosen.append((role, content))
    chosen.reverse()
    while chosen and chosen[0][0] == "assistant":
        chosen.pop(0)

    joined: list[tuple[str, str]] = []
    for role, content in chosen:
        if joined and joined[-1][0] == role:
            _, before = joined.pop()
            joined.append((role, before + _BETWEEN + content))
        else:
            joined.append((role, content))

    messages = []
    for index, (role, content) in enumerate(joined):
        front = _front(prompt, content, message_chars) if prompt and index == 0 else ""
        kept = content[-(message_chars - len(front)) :]
        messages.append({"role": role, "content": front + kept})
    return messages


def _front(prompt: str, content: str, message_chars: int) -> str:
    """Return the prompt, cut to what the engine accepts in front of a message.

    It may take half of a message, and whatever the content leaves of the other half.
    """
    left = message_chars - len(content) - len(_BETWEEN)
    return prompt[: max(message_chars // 2, left)] + _BETWEEN
