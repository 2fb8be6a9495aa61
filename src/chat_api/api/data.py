"""What users do with all their data: export, import, erase."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from chat_api.api.bodies import pieces_of
from chat_api.api.responses import problems
from chat_api.api.schemas.responses import FailedImport, Imported
from chat_api.api.services import ConversationId, CurrentUser, ServicesOf
from chat_api.api.streaming.download import Download
from chat_api.api.streaming.open_stream import UserStream
from chat_api.errors import UnsupportedMediaType
from chat_api.text import cut

router = APIRouter(prefix="/api", tags=["data"])

_NDJSON = "application/x-ndjson"
_LINE = '{"id":"…","title":"Paris", …, "messages":[{"id":"…","role":"user","content":"…"}]}'


@router.get(
    "/conversations/{conversation_id}/export",
    response_class=Response,
    responses={
        200: {
            "description": "The conversation as a file",
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": {"id": "…"}},
                "text/markdown": {"schema": {"type": "string"}, "example": "# Paris\n"},
            },
        },
        **problems(404, 422),
    },
)
async def export_conversation(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    _place: UserStream,
    file_format: Annotated[
        Literal["json", "markdown"],
        Query(alias="format", description="json: the whole tree; markdown: the shown path"),
    ] = "json",
) -> Response:
    """Download the conversation: its whole tree as JSON, or the messages shown as Markdown."""
    title, json = await services.exports.conversation(user.id, conversation_id)
    if file_format == "json":
        pieces = services.exports.as_json(user.id, conversation_id, json)
        ending, media_type = "json", "application/json"
    else:
        pieces = services.exports.as_markdown(user.id, conversation_id, title)
        ending, media_type = "md", "text/markdown; charset=utf-8"
    return Download(
        pieces,
        name=f"{_file_name(title)}.{ending}",
        media_type=media_type,
        slow_reader_seconds=services.settings.slow_reader_seconds,
    )


def _file_name(title: str) -> str:
    """Return the title without characters that are not allowed in file names."""
    kept = "".join(
        "-" if sign in '/\\:*?"<>|' or not sign.isprintable() else sign for sign in title
    )
    return cut(kept, most_clusters=60, most_chars=120).strip(" .") or "conversation"


@router.get(
    "/export",
    response_class=Response,
    responses={
        200: {
            "description": "One conversation with its whole tree per line",
            "content": {_NDJSON: {"schema": {"type": "string"}, "example": _LINE}},
        },
        **problems(),
    },
)
async def export_everything(
    services: ServicesOf, user: CurrentUser, _place: UserStream
) -> Response:
    """Download everything of the user as NDJSON, newest activity first.

    A download that ends early is cut off, so that the client knows.
    """
    return Download(
        services.exports.everything(user.id),
        name="conversations.ndjson",
        media_type=_NDJSON,
        slow_reader_seconds=services.settings.slow_reader_seconds,
    )


@router.post(
    "/import",
    response_model=Imported,
    responses=problems(400, 413, 415),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                _NDJSON: {"schema": {"type": "string"}, "example": _LINE},
                "application/json": {"schema": {}, "example": []},
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def import_conversations(
    request: Request, services: ServicesOf, user: CurrentUser
) -> Imported:
    """Import conversations: NDJSON as exported, or ChatGPT's, Open WebUI's or LibreChat's file.

    A ZIP archive is read as it arrives, and its JSON files imported: of an export of ChatGPT, its
    `conversations.json`.
    Each conversation is imported as a whole or not at all. Importing twice changes nothing, so an
    import that was cut off is repeated. Messages without text are left out: calls of tools, hidden
    ones.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type.startswith("multipart/"):
        raise UnsupportedMediaType("Send the file itself as the body, not a form.")
    most_bytes = services.settings.max_import_bytes
    report = await services.imports.run(
        user.id,
        pieces_of(request, most_bytes),
        most_bytes=most_bytes,
        is_ndjson=media_type == _NDJSON,
    )
    return Imported(
        imported=report.imported,
        unchanged=report.unchanged,
        failed=[FailedImport(line=line, detail=detail) for line, detail in report.failed],
    )


@router.delete("/me", status_code=204, responses=problems())
async def delete_me(services: ServicesOf, user: CurrentUser) -> Response:
    """Erase everything of the user; running answers are stopped.

    A request that fails may have erased a part: repeat it.
    """
    await services.deletions.delete_user(user.id)
    return Response(status_code=204)
