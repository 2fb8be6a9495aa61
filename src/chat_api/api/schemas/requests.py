"""The bodies of requests, which `api.bodies` reads and validates."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from chat_api.api.schemas.fields import (
    TEXT_PATTERN,
    AnyId,
    ExpiresAt,
    Instructions,
    MaxTokens,
    Metadata,
    ModelTag,
    Tags,
    Text,
    Title,
    TopK,
    as_list,
    few_texts,
    is_format,
    whole_number,
)


class Request(BaseModel):
    """Base of the request bodies: strict types, unknown fields ignored, null means absent."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class ConversationOptions(Request):
    """Defaults for the answers of one conversation."""

    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False, examples=[0.7])] = (
        None
    )
    max_tokens: Annotated[MaxTokens | None, Field(examples=[512])] = None
    top_k: Annotated[TopK | None, Field(examples=[40])] = None
    thinking_mode: bool | None = None


class ConversationFields(Request):
    title: Title | None = None
    model_tag: ModelTag | None = None
    instructions: Instructions | None = None
    options: ConversationOptions | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    expires_at: ExpiresAt | None = None


class ForkedFrom(Request):
    conversation_id: AnyId
    message_id: AnyId


class NewConversation(ConversationFields):
    fork: Annotated[
        ForkedFrom | None,
        Field(description="begin with a copy of the path to this message"),
    ] = None


class Rename(Request):
    title: Title


class ConversationChange(ConversationFields):
    is_favorited: Annotated[bool | None, Field(examples=[True])] = None


# Their limits are checked by `few_texts`, with one message for all of them.
_StopText = Annotated[
    str,
    Field(json_schema_extra={"minLength": 1, "maxLength": 100, "pattern": r"^[^\u0000]*$"}),
]
_StopTexts = Annotated[list[_StopText], Field(json_schema_extra={"minItems": 1, "maxItems": 4})]


class AnswerOptions(Request):
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False, examples=[0.7])] = (
        None
    )
    max_tokens: Annotated[MaxTokens | None, Field(examples=[512])] = None
    top_k: Annotated[TopK | None, Field(examples=[40])] = None
    thinking_mode: bool | None = None
    force_web_search: bool | None = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False, examples=[0.9])] = None
    stop: Annotated[
        list[str] | None,
        BeforeValidator(as_list, json_schema_input_type=_StopText | _StopTexts | None),
        AfterValidator(few_texts),
        Field(
            examples=[["\n\n"]],
            description="texts at which the answer ends: 1 to 4 of 1 to 100 characters; one may "
            "come without a list",
        ),
    ] = None
    response_format: Annotated[
        dict[str, Any] | None,
        Field(
            json_schema_extra={
                "required": ["type"],
                "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
            },
            examples=[{"type": "json_object"}],
            description="as in OpenAI's Chat Completions; engines without support ignore it",
        ),
        AfterValidator(is_format),
    ] = None
    model_tag: Annotated[
        ModelTag | None,
        Field(description="the model for this answer, instead of the conversation's"),
    ] = None
    if_busy: Annotated[
        Literal["reject", "stop"] | None,
        Field(
            description="while an answer runs: 409, or stop it; without it, it is stopped where "
            "no client reads it"
        ),
    ] = None


class Regeneration(AnswerOptions):
    message_id: Annotated[
        AnyId | None, Field(description="an answer; default: the last shown one")
    ] = None


class NewMessage(AnswerOptions):
    parent_id: Annotated[
        AnyId | None,
        Field(
            description="the message to add it after; the last one shown without it, null for a "
            "new first message"
        ),
    ] = None
    content: Annotated[
        Text,
        Field(
            min_length=1,
            max_length=8000,
            examples=["What is the capital of France?"],
            json_schema_extra=TEXT_PATTERN,
        ),
    ]


class ShownPath(Request):
    message_id: AnyId


class Swap(Request):
    model_tag: ModelTag


Limit = Annotated[
    int,
    Field(ge=0, le=10**15, description="null: the setting's value; 0: no limit"),
    BeforeValidator(whole_number),
]
EXAMPLE_LIMITS: dict[str, Any] = {"answers_per_day": 200, "tokens_per_day": None}


class NewUserLimits(Request):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_LIMITS]})

    answers_per_day: Limit | None = None
    tokens_per_day: Limit | None = None


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return the schema with its definitions in place of references to them."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items()}


def request_body(model: type[Request], *, required: bool) -> dict[str, Any]:
    """Return the OpenAPI description of a body that `api.bodies` reads."""
    schema = model.model_json_schema()
    # The description has no place for a model's own definitions.
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {
        "requestBody": {
            "required": required,
            "content": {"application/json": {"schema": schema}},
        }
    }
