"""The models of the engines, and swapping the loaded one, which needs an administrator."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from starlette.responses import Response

from chat_api.api.bodies import json_body
from chat_api.api.responses import problems, written_json
from chat_api.api.schemas.requests import Swap, request_body
from chat_api.api.services import Administrator, CurrentUser, ServicesOf
from chat_api.db import audit
from chat_api.errors import Draining
from chat_api.telemetry import log, trace_id_var

router = APIRouter(prefix="/api/models", tags=["models"])
_MODELS = {
    "current_model": "small",
    "models": [
        {
            "model_tag": "small",
            "source": "file",
            "path": "/models/small.gguf",
            "available": True,
            "loaded": True,
        }
    ],
}
_SWAPPED = {"status": "ok", "current_model": "small"}


def _described(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {200: {"description": "The response of the inference service", "content": content}}


@router.get("", response_class=Response, responses=_described(_MODELS) | problems(502, 504))
async def list_models(services: ServicesOf, _user: CurrentUser) -> Response:
    """Return the models of all engines; those of an unreachable engine are not available.

    If samosaChaat's inference service is the only engine, its own list is passed on unchanged.
    """
    return written_json(await services.engines.list_models(trace_id_var.get()))


@router.post(
    "/swap",
    response_class=Response,
    responses=_described(_SWAPPED) | problems(400, 403, 404, 409, 413, 415, 422, 502, 504),
    openapi_extra=request_body(Swap, required=True),
)
async def swap_model(
    services: ServicesOf,
    user: Administrator,
    body: Annotated[Swap, Depends(json_body(Swap))],
) -> Response:
    """Make the inference service load another model. This may take minutes."""
    if services.registry.is_draining:
        raise Draining
    log.info("model_swap", user_id=user.id)
    details = orjson.dumps({"model_tag": body.model_tag}).decode()
    await audit.record(services.db, user.id, "swap_model", None, details, trace_id_var.get())
    status, answer = await services.engines.swap(body.model_tag, trace_id_var.get())
    return written_json(answer, status)
