"""The meaning of a POST of `useChat`: a new message, an edit, a regeneration, or a repeat."""

import re
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from chat_api.api.messages import check_model, options_of
from chat_api.api.services import Services, checked_id
from chat_api.auth import User
from chat_api.conversations.titles import title_of
from chat_api.db import generations as db_generations
from chat_api.db import named, queries
from chat_api.db.named import Named
from chat_api.dialects.ai_sdk.schemas import KnownMessage, SentMessage, Turn
from chat_api.errors import AnswerGone, Invalid, NotFound
from chat_api.generation.sink import Sink
from chat_api.generation.subscription import Subscription

# The namespace of ids for conversations whose client chose the id. A change would make them
# unreachable.
_CHATS = uuid.UUID("6f0f4d1c-3f2b-5a52-9d0c-5a0f1a4f7a11")
_OURS = re.compile(r"msg_([0-9a-f]{32})")
_CUT_OFF = frozenset({"failed", "interrupted", "stopped"})


def conversation_ids(user: User, chat_id: str) -> list[str]:
    """Return the ids that the conversation may have: its own, and that of a client's name."""
    own = str(uuid.uuid5(_CHATS, f"{user.id}\0{chat_id}"))
    try:
        return [checked_id(chat_id), own]
    except NotFound:
        return [own]


@dataclass(frozen=True, slots=True)
class Saved:
    """An answer whose events are gone: the message as JSON of our own API."""

    message: dict[str, Any]


class Turns:
    """Begins the generation that a POST asks for, and subscribes to it."""

    def __init__(self, services: Services, user: User, turn: Turn, sink: Sink) -> None:
        self._services = services
        self._user = user
        self._turn = turn
        self._sink = sink
        self._conversation_id = ""

    async def begin(self) -> Subscription | Saved:
        """Carry out the POST. Raise Invalid, or an error of `SendPolicy.send`."""
        last = self._turn.last()
        sent = last if isinstance(last, SentMessage) else None
        if self._turn.trigger == "submit-message" and last is None:
            raise Invalid([("messages", "is empty")])
        content = "" if sent is None else sent.content()
        await check_model(self._services, self._turn.model_tag)
        candidates = conversation_ids(self._user, self._turn.id)
        found = await named.find_conversation(self._services.db, self._user.id, candidates)
        self._conversation_id = found or candidates[-1]
        if self._turn.trigger == "regenerate-message":
            return await self._regenerate(sent, content)
        assert last is not None  # noqa: S101  # refused above
        if sent is None:
            return await self._go_on(last)
        return await self._submit(sent.id, content)

    # --- submit-message ---

    async def _submit(self, sent_id: str | None, content: str) -> Subscription | Saved:
        name = self._turn.message_id or sent_id
        if name is None:
            return await self._send(content)
        known = await self._find(name)
        if known is None:
            return await self._send(content, question_id=self._uuid5(name))
        if known.role != "user":
            raise Invalid([("messageId", "is no message of the user")])
        is_edit = self._turn.message_id is not None
        if known.content == content:
            return await self._again(known, is_asked_for=is_edit)
        derived = self._uuid5(f"{name}\0{content}\0{known.id}")
        earlier = await self._find(derived)
        if is_edit:
            # An earlier message with this id is a hidden version, so this is not a repeat.
            question_id = derived if earlier is None else None
            return await self._send(content, at=known.parent_id, question_id=question_id)
        if earlier is not None:
            return await self._again(earlier, is_asked_for=False)
        return await self._send(content, question_id=derived)

    async def _again(self, question: Named, *, is_asked_for: bool) -> Subscription | Saved:
        """Answer a question that is known, or subscribe to its answer.

        An answer that was cut off is written again only where the client asks for it, which
        names the message; without that it may be a repeat of a request.
        """
        answer = await named.find_answer(self._services.db, self._conversation_id, question.id)
        if answer is None:
            return await self._send(None)
        if is_asked_for and answer.status in _CUT_OFF:
            return await self._send(None, at=answer.id)
        return await self._subscribe(answer.id)

    async def _go_on(self, last: KnownMessage) -> Subscription | Saved:
        """Subscribe to an answer that the client has already, which is the last message sent."""
        answer = None if last.id is None else await self._find(last.id)
        if answer is None or answer.role != "assistant":
            raise Invalid([("messages", "end with a message that is not the user's")])
        return await self._subscribe(answer.id)

    # --- regenerate-message ---

    async def _regenerate(self, last: SentMessage | None, content: str) -> Subscription | Saved:
        if (successor := await self._find_successor()) is not None:
            return await self._subscribe(successor)
        names = [self._turn.message_id, None if last is None else last.id]
        target = None
        for name in names:
            if name is not None and target is None:
                target = await self._find(name)
        if target is None:
            if last is not None:  # the POST that sent it was lost
                question_id = None if last.id is None else self._uuid5(last.id)
                return await self._send(content, question_id=question_id)
            if self._turn.message_id is not None:
                raise NotFound
            return await self._send(None)
        if target.role == "assistant":
            question_id, answer_id = target.parent_id, target.id
        else:
            answer = await named.find_answer(self._services.db, self._conversation_id, target.id)
            if answer is None:
                return await self._send(None)
            question_id, answer_id = target.id, answer.id
        found = await db_generations.find_joinable(
            self._services.db, self._user.id, self._conversation_id, None
        )
        running = None if found is None else found.running
        if (
            running is not None
            and running.question_id == question_id
            and running.message_id != answer_id
        ):
            return await self._subscribe(running.message_id)
        return await self._send(None, at=answer_id)

    async def _find_successor(self) -> str | None:
        """Return the answer that the POST began already, where it is sent again.

        It names the answer that was to be written again, which is hidden now: a page that has read
        the new one names that. With another model it is no repeat.
        """
        named_id = None if self._turn.message_id is None else _our_id(self._turn.message_id)
        if named_id is None:
            return None
        found = await named.find_successor(
            self._services.db, self._user.id, self._conversation_id, named_id
        )
        wanted = self._turn.model_tag
        if found is None:
            return None
        is_other = wanted is not None and not f"/{found.model_tag}".endswith(f"/{wanted}")
        return None if is_other else found.id

    # --- what all of them use ---

    def _uuid5(self, name: str) -> str:
        return str(uuid.uuid5(uuid.UUID(self._conversation_id), name))

    async def _find(self, name: str) -> Named | None:
        """Return the message that a name stands for: of its versions, the one that is shown."""
        for message_id in (_our_id(name), self._uuid5(name)):
            if message_id is not None:
                found = await named.find_shown(
                    self._services.db, self._user.id, self._conversation_id, message_id
                )
                if found is not None:
                    return found
        return None

    async def _send(
        self, content: str | None, *, at: str | None = None, question_id: str | None = None
    ) -> Subscription:
        return await self._services.sends.send(
            self._user.id,
            self._conversation_id,
            content=content,
            title=None if content is None else title_of(content),
            options=options_of(self._turn),
            model_tag=self._turn.model_tag,
            idempotency=None,
            sink=self._sink,
            one_attempt=False,
            at=at,
            if_busy=self._turn.if_busy,
            question_id=question_id,
            creates=content is not None,
        )

    async def _subscribe(self, message_id: str) -> Subscription | Saved:
        """Subscribe to an answer, or return it as it was saved. Raise AnswerGone."""
        try:
            return await self._services.joins.repeat(message_id, self._sink, one_attempt=False)
        except AnswerGone:
            message = await queries.read_message(
                self._services.db, self._user.id, self._conversation_id, message_id
            )
            if message is None:
                raise
            return Saved(orjson.loads(message))


def _our_id(name: str) -> str | None:
    """Return the message's id if a name is one, in this dialect's form or in our own."""
    found = _OURS.fullmatch(name)
    if found is not None:
        return str(uuid.UUID(found[1]))
    try:
        return checked_id(name)
    except NotFound:
        return None
