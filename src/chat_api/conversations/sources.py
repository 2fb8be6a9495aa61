"""Reading one conversation out of an export: ours, ChatGPT's, Open WebUI's or LibreChat's.

Other programs' files have no description. Whatever is missing or of another type than expected is
left out; only what has no messages at all is refused.
"""

import html
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from chat_api.db.queries import ConversationSettings
from chat_api.text import cut, is_blank

MOST_MESSAGE_CHARS = 1_000_000
_ROLES = ("user", "assistant", "system")
_STATUSES = ("complete", "stopped", "interrupted", "failed")
_FINISH_REASONS = ("stop", "length", "content_filter")
_MOST_INTEGER = 2**31 - 1
_MOST_TIME_LEVELS = 2  # {"$date": {"$numberLong": "…"}}
# Stands for content that is not text, such as a picture.
_ATTACHMENT = "[attachment]"
# What Open WebUI writes into a text: reasoning as quoted lines, calls of tools and their results.
# The pattern must take linear time for any text.
_DETAILS = re.compile(r'<details type="(reasoning|tool_calls|code_interpreter)"[^<>]*>')
_DETAILS_END = "</details>"
# What LibreChat writes in front of an answer.
_THINKING = re.compile(r"\s*:::thinking\n(.*?)\n:::[ \t]*(?:\n\s*|\Z)", re.DOTALL)
# ChatGPT's references to its search results, which no other program can resolve.
_CITATION = re.compile("\ue200[^\ue200\ue201]*\ue201")


class NotReadable(ValueError):
    """The object is no conversation; the text says why, and quotes nothing of it."""


@dataclass(slots=True)
class Node:
    """A message of an export. `parent` is another one's id."""

    id: str
    parent: str | None
    role: str
    content: str
    created_at: datetime | None = None
    model_tag: str | None = None
    reasoning: str | None = None
    status: str = "complete"
    version: int = 0
    """Its number among those with the same parent; 0 if only the order of the file is known."""
    is_shown: bool = False
    is_kept: bool = True
    """False for a node without a message: its children follow its parent."""
    finish_reason: str | None = None
    token_count: int = 0
    inference_time_ms: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None


@dataclass(slots=True)
class Source:
    """A conversation of an export."""

    program: str
    id: str | None
    title: str | None
    nodes: list[Node]
    current: str | None = None
    """The id of a message on the shown path."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    settings: ConversationSettings = field(default_factory=ConversationSettings)


def read(document: Mapping[str, Any]) -> Source:
    """Return the conversation in an object of an export. Raise NotReadable."""
    for is_of, read_it in _PROGRAMS:
        if is_of(document):
            source = read_it(document)
            for node in source.nodes:
                if max(len(node.content), len(node.reasoning or "")) > MOST_MESSAGE_CHARS:
                    raise NotReadable(
                        f"A message is longer than {MOST_MESSAGE_CHARS:,} characters."
                    )
            return source
    raise NotReadable("This is not a conversation in a known format.")


# --- ours -----------------------------------------------------------------------------------------


def _ours(document: Mapping[str, Any]) -> Source:
    nodes: list[Node] = []
    for index, message in enumerate(_list(document, "messages")):
        if isinstance(message, dict):
            # Files of yet other programs have a list of messages without ids: one path.
            before = nodes[-1].id if nodes else None
            named = message if _text(message, "id") else {**message, "id": f"#{index}"}
            nodes.append(_our_node({"parent_id": before} | named))
    tags = [cut_tag for tag in _list(document, "tags") if (cut_tag := _short(tag, 50))]
    metadata = {
        _clean(key): _clean(value)
        for key, value in _dict(document, "metadata").items()
        if isinstance(value, str) and 0 < len(key) <= 64 and len(value) <= 512
    }
    expires_at = _any_time(document.get("expires_at"))
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise NotReadable("This conversation has expired.")
    return Source(
        program="samosachaat",
        id=_text(document, "id") or None,
        title=_text(document, "title"),
        nodes=nodes,
        created_at=_time(document.get("created_at")),
        updated_at=_time(document.get("updated_at")),
        settings=ConversationSettings(
            model_tag=_short(document.get("model_tag"), 100),
            is_favorited=document.get("is_favorited") is True,
            instructions=_short(document.get("instructions"), 8000),
            options=_options(document.get("options")),
            tags=list(dict.fromkeys(tags))[:20],
            metadata=orjson.dumps(dict(list(metadata.items())[:16])).decode(),
            expires_at=expires_at,
        ),
    )


def _our_node(message: Mapping[str, Any]) -> Node:
    usage = _dict(message, "usage")
    status = message.get("status", "complete")
    finish_reason = message.get("finish_reason")
    role = message.get("role")
    content = message.get("content")
    return Node(
        id=_text(message, "id"),
        parent=_text(message, "parent_id") or None,
        role=role if role in _ROLES else "assistant",
        content=_parts(content) if isinstance(content, list) else _text(message, "content"),
        created_at=_time(message.get("created_at")),
        model_tag=_short(message.get("model_tag"), 100),
        reasoning=_text(message, "reasoning") or None,
        # An answer that was being written when it was exported.
        status=status if status in _STATUSES else "interrupted",
        version=_integer(message.get("version")) or 0,
        is_shown=message.get("shown") is True,
        is_kept=role in _ROLES,
        finish_reason=finish_reason if finish_reason in _FINISH_REASONS else None,
        token_count=_integer(message.get("token_count")) or 0,
        inference_time_ms=_integer(message.get("inference_time_ms")) or 0,
        input_tokens=_integer(usage.get("input_tokens")),
        output_tokens=_integer(usage.get("output_tokens")),
        error=_short(message.get("error"), 100),
    )


def _options(given: object) -> str | None:
    """Return the options that a conversation may have, as JSON; None where it has none."""
    if not isinstance(given, dict):
        return None
    temperature, thinking = given.get("temperature"), given.get("thinking_mode")
    kept: dict[str, Any] = {}
    if isinstance(temperature, int | float) and 0 <= temperature <= 2:
        kept["temperature"] = float(temperature)
    for name, least, most in (("max_tokens", 1, 4096), ("top_k", 0, 200)):
        number = _integer(given.get(name))
        if number is not None and least <= number <= most:
            kept[name] = number
    if isinstance(thinking, bool):
        kept["thinking_mode"] = thinking
    return orjson.dumps(kept).decode()


# --- ChatGPT --------------------------------------------------------------------------------------


def _chatgpt(document: Mapping[str, Any]) -> Source:
    nodes = [
        _chatgpt_node(name, node)
        for name, node in _dict(document, "mapping").items()
        if isinstance(node, dict)
    ]
    return Source(
        program="chatgpt",
        id=_text(document, "conversation_id") or _text(document, "id") or None,
        title=_text(document, "title"),
        nodes=nodes,
        current=_text(document, "current_node") or None,
        created_at=_time(document.get("create_time")),
        updated_at=_time(document.get("update_time")),
        settings=ConversationSettings(is_favorited=document.get("is_starred") is True),
    )


def _chatgpt_node(name: str, node: Mapping[str, Any]) -> Node:
    message = _dict(node, "message")
    metadata = _dict(message, "metadata")
    content = _dict(message, "content")
    role = _text(_dict(message, "author"), "role")
    thoughts = [
        _text(thought, "content") or _text(thought, "summary")
        for thought in _list(content, "thoughts")
        if isinstance(thought, dict)
    ]
    text = ""
    if content.get("content_type") not in ("thoughts", "reasoning_recap", "model_editable_context"):
        text = _parts(_list(content, "parts")) or _text(content, "text")
        text = _CITATION.sub("", text)
    is_hidden = metadata.get("is_visually_hidden_from_conversation") is True
    return Node(
        id=_text(node, "id") or _clean(name),
        parent=_text(node, "parent") or None,
        role=role,
        content=text,
        created_at=_time(message.get("create_time")),
        model_tag=_short(metadata.get("model_slug"), 100),
        reasoning="\n\n".join(filter(None, thoughts)) or None,
        status="interrupted" if message.get("status") == "in_progress" else "complete",
        # Calls of tools, and what they returned, are no messages.
        is_kept=role in _ROLES
        and not is_hidden
        and message.get("recipient", "all") in (None, "all")
        and not is_blank(text),
    )


def _parts(parts: list[Any]) -> str:
    """Return the texts of a message's parts; other parts are replaced by a mark."""
    found = []
    for part in parts:
        if isinstance(part, str):
            found.append(_clean(part))
        elif isinstance(part, dict):
            text = part.get("text")
            if isinstance(text, dict):
                text = text.get("value")
            found.append(_clean(text) if isinstance(text, str) else _ATTACHMENT)
    return "\n\n".join(text for text in found if text)


# --- Open WebUI -----------------------------------------------------------------------------------


def _open_webui(document: Mapping[str, Any]) -> Source:
    chat = document["chat"] if isinstance(document.get("chat"), dict) else document
    history = _dict(chat, "history")
    named: list[tuple[str, Any]] = list(_dict(history, "messages").items())
    current = _text(history, "currentId") or None
    if not named:  # files of the first versions: one path
        before = None
        for index, message in enumerate(_list(chat, "messages")):
            if isinstance(message, dict):
                name = _text(message, "id") or str(index)
                named.append((name, {"parentId": before} | message))
                before = name
        current = before
    tags = [*_list(_dict(document, "meta"), "tags"), *_list(chat, "tags")]
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag in tags)
    short = [tag for name in names if (tag := _short(name, 50))]
    system = _text(_dict(chat, "params"), "system") or _text(chat, "system")
    return Source(
        program="open-webui",
        id=_text(document, "id") or _text(chat, "id") or None,
        title=_text(document, "title") or _text(chat, "title"),
        nodes=[_webui_node(name, node) for name, node in named if isinstance(node, dict)],
        current=current,
        created_at=_time(document.get("created_at")) or _time(chat.get("timestamp")),
        updated_at=_time(document.get("updated_at")),
        settings=ConversationSettings(
            is_favorited=document.get("pinned") is True,
            instructions=None if is_blank(system) else system[:8000],
            tags=list(dict.fromkeys(short))[:20],
        ),
    )


def _webui_node(name: str, message: Mapping[str, Any]) -> Node:
    content = message.get("content")
    text = _parts(content) if isinstance(content, list) else _text(message, "content")
    role = _text(message, "role")
    thoughts: list[str] = []
    if role == "assistant":
        text, thoughts = _without_details(text)
    usage = _dict(message, "usage") or _dict(message, "info")
    if is_blank(text) and _list(message, "files"):
        text = _ATTACHMENT
    return Node(
        id=_text(message, "id") or _clean(name),
        parent=_text(message, "parentId") or None,
        role=role,
        content=text,
        created_at=_time(message.get("timestamp")),
        model_tag=_short(message.get("model"), 100),
        reasoning="\n\n".join(filter(None, thoughts)) or None,
        status="failed" if message.get("error") else "complete",
        is_kept=role in _ROLES and not (is_blank(text) and not message.get("error")),
        input_tokens=_integer(usage.get("prompt_tokens", usage.get("prompt_eval_count"))),
        output_tokens=_integer(usage.get("completion_tokens", usage.get("eval_count"))),
    )


def _without_details(text: str) -> tuple[str, list[str]]:
    """Return the text without reasoning and calls of tools, and the reasoning."""
    kept: list[str] = []
    thoughts: list[str] = []
    place = 0
    while (begin := _DETAILS.search(text, place)) is not None:
        end = text.find(_DETAILS_END, begin.end())
        if end < 0:
            break
        kept.append(text[place : begin.start()])
        place = end + len(_DETAILS_END)
        if begin[1] == "reasoning":
            inside = text[begin.end() : end]
            thoughts.append(_unquoted(inside.partition("</summary>")[2] or inside))
    if not kept:
        return text, []
    return "".join([*kept, text[place:]]).strip(), thoughts


def _unquoted(text: str) -> str:
    """Return what stands in quoted lines, whose markup is escaped."""
    lines = (re.sub(r"^(?:>|&gt;) ?", "", line) for line in text.strip().split("\n"))
    return html.unescape("\n".join(lines)).strip()


# --- LibreChat ------------------------------------------------------------------------------------


def _librechat(document: Mapping[str, Any]) -> Source:
    return Source(
        program="librechat",
        id=_text(document, "conversationId") or None,
        title=_text(document, "title"),
        nodes=list(map(_librechat_node, _flat(document))),
        created_at=_time(document.get("createdAt")),
        updated_at=_time(document.get("updatedAt")),
        settings=ConversationSettings(
            tags=[tag for name in _list(document, "tags") if (tag := _short(name, 50))][:20],
        ),
    )


def _flat(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the messages, which are in a list or inside of each other, parents first."""
    waiting = [*_list(document, "messages"), *_list(document, "messagesTree")]
    waiting.reverse()
    before = None
    count = 0
    while waiting:
        message = waiting.pop()
        if not isinstance(message, dict):
            continue
        count += 1
        name = _text(message, "messageId") or _text(message, "id") or f"#{count}"
        # Files of imports from elsewhere have no parents at all: one path.
        yield {"parentMessageId": before} | message | {"messageId": name}
        before = name
        children = [child for child in _list(message, "children") if isinstance(child, dict)]
        waiting += [{"parentMessageId": name} | child for child in reversed(children)]


def _librechat_node(message: Mapping[str, Any]) -> Node:
    pieces = [piece for piece in _list(message, "content") if isinstance(piece, dict)]
    texts = [piece for piece in pieces if piece.get("type") in ("text", None)]
    thoughts = [{"text": piece.get("think")} for piece in pieces if piece.get("type") == "think"]
    text = _text(message, "text") or _parts(list(texts))
    told = message.get("isCreatedByUser")
    is_user = told if isinstance(told, bool) else _text(message, "sender").lower() == "user"
    if not is_user and (before := _THINKING.match(text)):
        thoughts.insert(0, {"text": before[1]})
        text = text[before.end() :]
    if is_blank(text) and _list(message, "files"):
        text = _ATTACHMENT
    failed, unfinished = message.get("error") is True, message.get("unfinished") is True
    return Node(
        id=_text(message, "messageId"),
        # The root's name, which no message has, is a UUID of zeros.
        parent=_text(message, "parentMessageId") or None,
        role="user" if is_user else "assistant",
        content=text,
        created_at=_time(message.get("createdAt")),
        model_tag=None if is_user else _short(message.get("model"), 100),
        reasoning=_parts(list(thoughts)) or None,
        status="failed" if failed else "interrupted" if unfinished else "complete",
        is_kept=not is_blank(text) or failed,
        token_count=_integer(message.get("tokenCount")) or 0,
    )


_PROGRAMS: tuple[
    tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], Source]], ...
] = (
    (lambda document: isinstance(document.get("mapping"), dict), _chatgpt),
    (lambda document: "conversationId" in document or "messagesTree" in document, _librechat),
    (
        lambda document: (
            isinstance(document.get("chat"), dict) or isinstance(document.get("history"), dict)
        ),
        _open_webui,
    ),
    (lambda document: isinstance(document.get("messages"), list), _ours),
)

# --- values ---------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """Return the text with U+FFFD for what no database takes."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    # Code points of a pair, written as two escapes, are put together.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if isinstance(value, dict) and isinstance(value.get("$oid"), str):
        value = value["$oid"]
    return _clean(value) if isinstance(value, str) else ""


def _short(value: object, most_chars: int) -> str | None:
    """Return a text that is not blank, cut to a length."""
    if not isinstance(value, str) or is_blank(value):
        return None
    return cut(_clean(value), most_clusters=most_chars, most_chars=most_chars) or None


def _dict(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= _MOST_INTEGER else None


def _time(value: object) -> datetime | None:
    """Return a time, read by `_any_time`, if it is in the past."""
    found = _any_time(value)
    return found if found is not None and found <= datetime.now(UTC) else None


def _any_time(value: object) -> datetime | None:
    """Return a time: Unix time in any unit, ISO 8601, or MongoDB's JSON."""
    for _ in range(_MOST_TIME_LEVELS):
        if isinstance(value, dict):
            value = value.get("$date", value.get("$numberLong"))
    try:
        if isinstance(value, str):
            if value.strip().isdecimal():
                return _any_time(int(value.strip()[:20]))
            found = datetime.fromisoformat(value.strip())
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            if value == math.inf:  # which Python's JSON parser takes, and which stays infinite
                return None
            while value > 1e11:  # milliseconds, microseconds or nanoseconds
                value /= 1000
            found = datetime.fromtimestamp(value, UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return found if found.year >= 1970 else None
