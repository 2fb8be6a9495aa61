"""The bodies that `useChat` sends, and the messages that it loads first."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from chat_api.api.bodies import errors_of
from chat_api.api.schemas.fields import TEXT_PATTERN, Storable, Text
from chat_api.api.schemas.requests import AnswerOptions, Request
from chat_api.errors import Invalid

MOST_ID_CHARS = 200
ClientId = Annotated[
    Storable,
    Field(min_length=1, max_length=MOST_ID_CHARS, json_schema_extra={"pattern": r"^[^\u0000]+$"}),
]
_TEXT: TypeAdapter[str] = TypeAdapter(Annotated[Text, Field(min_length=1, max_length=8000)])


class SentPart(Request):
    type: str
    text: Annotated[
        str | None, Field(max_length=8000, json_schema_extra=TEXT_PATTERN, examples=["Hello"])
    ] = None


class KnownMessage(Request):
    """A UI message of which the service reads no text: it has it already."""

    id: ClientId | None = None
    role: Literal["user", "assistant", "system"]


class SentMessage(KnownMessage):
    """A UI message of the user's."""

    parts: Annotated[list[SentPart], Field(min_length=1)]

    def content(self) -> str:
        """Return the text of a message. Raise Invalid if it has none, or has a file."""
        if any(part.type == "file" for part in self.parts):
            raise Invalid([("parts", "hold a file; only text can be sent")])
        text = "".join(part.text or "" for part in self.parts if part.type == "text")
        try:
            return _TEXT.validate_python(text, strict=True)
        except ValidationError as error:
            raise Invalid([("parts", reason) for _, reason in errors_of(error)]) from None


class Turn(AnswerOptions):
    """A message to answer, or an answer to regenerate."""

    id: Annotated[ClientId, Field(description="a conversation's id, or the client's own id")]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: Annotated[
        ClientId | None,
        Field(
            alias="messageId",
            description="the message to edit, or the answer to regenerate, or its question",
        ),
    ] = None
    messages: Annotated[
        list[dict[str, Any]] | None,
        Field(description="only the last one is read: the service keeps the history"),
    ] = None
    message: Annotated[
        dict[str, Any] | None, Field(description="only the last message, instead of `messages`")
    ] = None

    def last(self) -> KnownMessage | None:
        """Return the last message, if there is one: a SentMessage if the user's. Raise Invalid."""
        sent, name = self.message, "message"
        if sent is None and self.messages:
            sent, name = self.messages[-1], "messages"
        if sent is None:
            return None
        try:
            model = SentMessage if sent.get("role") == "user" else KnownMessage
            return model.model_validate(sent)
        except ValidationError as error:
            problems = [(f"{name}.{field}", reason) for field, reason in errors_of(error)]
            raise Invalid(problems) from None


class UiMetadata(BaseModel):
    status: Literal["generating", "complete", "stopped", "interrupted", "failed"]


class UiPart(BaseModel):
    type: Literal["step-start", "reasoning", "text"]
    text: str | None = None
    state: Literal["done"] | None = None


class UiMessage(BaseModel):
    id: str
    role: Literal["user", "assistant", "system"]
    metadata: UiMetadata
    parts: list[UiPart]
