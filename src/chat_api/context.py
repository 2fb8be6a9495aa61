"""What the model sees: the history, cut to the budgets. Pure functions."""

from collections.abc import Sequence

from chat_api.db.generations import Turn
from chat_api.settings import INFERENCE_MESSAGE_CHARS, INFERENCE_REQUEST_CHARS
from chat_api.text import is_blank

_BETWEEN = "\n\n"


def build_context(
    history: Sequence[Turn], *, prompt: str, most_messages: int, most_chars: int
) -> list[dict[str, str]]:
    """Return the messages of one engine request, oldest first, ending with the newest of `history`.

    The newest message is always in it; older ones while there are at most `most_messages` of them
    and `most_chars` characters in all. Roles alternate and the first is the user's: neighbours of
    one role are joined by a blank line, an answer without its question is left out. `prompt` goes
    in front of the first user message. A message that is longer than the engine accepts keeps its
    end, where the newest text is.
    """
    budget = min(most_chars, INFERENCE_REQUEST_CHARS)
    room = budget - (len(prompt) + len(_BETWEEN) if prompt else 0)
    chosen: list[Turn] = []
    for turn in reversed(history):
        content = turn.content[-INFERENCE_MESSAGE_CHARS:]
        if turn.role not in {"user", "assistant"} or is_blank(content):
            continue
        joins = bool(chosen) and chosen[-1].role == turn.role
        room -= len(content) + (len(_BETWEEN) if joins else 0)
        if chosen and (room < 0 or len(chosen) == most_messages):
            break
        chosen.append(Turn(turn.role, content))
    chosen.reverse()
    while chosen and chosen[0].role == "assistant":
        chosen.pop(0)

    joined: list[Turn] = []
    for turn in chosen:
        if joined and joined[-1].role == turn.role:
            before = joined.pop()
            turn = Turn(turn.role, before.content + _BETWEEN + turn.content)
        joined.append(turn)

    messages = []
    for index, turn in enumerate(joined):
        front = _front(prompt, turn.content) if prompt and index == 0 else ""
        kept = turn.content[-(INFERENCE_MESSAGE_CHARS - len(front)) :]
        messages.append({"role": turn.role, "content": front + kept})
    return messages


def _front(prompt: str, content: str) -> str:
    """Return the prompt, cut to what the engine accepts in front of a message.

    It may take half of a message, and whatever the content leaves of the other half.
    """
    left = INFERENCE_MESSAGE_CHARS - len(content) - len(_BETWEEN)
    return prompt[: max(INFERENCE_MESSAGE_CHARS // 2, left)] + _BETWEEN
