"""The tags of a user's conversations."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from chat_api.api.responses import problems
from chat_api.api.services import CurrentUser, ServicesOf
from chat_api.db import queries

router = APIRouter(prefix="/api/tags", tags=["conversations"])


class Tags(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"items": ["poems", "work"]}]})

    items: list[str] = Field(
        description=f"in the order of code points; at most {queries.MOST_TAGS:,}"
    )


@router.get("", response_model=Tags, responses=problems())
async def list_tags(services: ServicesOf, user: CurrentUser) -> Tags:
    """Return the tags of all conversations of the user, each once."""
    return Tags(items=await queries.list_tags(services.db, user.id))
