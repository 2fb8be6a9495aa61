"""The same service as tutorials write it: FastAPI, SQLAlchemy's ORM, httpx, StreamingResponse.

An opponent for `make bench`, on the service's own tables. It keeps no promise beyond the happy
path: the answer is saved when its stream ends, and the auth service is asked about each request.
"""

import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

import httpx2 as httpx
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=20)
sessions = async_sessionmaker(engine, expire_on_commit=False)
client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None))


class Base(DeclarativeBase):
    pass


class Conversation(Base):
    __tablename__ = "conversations"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[str]
    title: Mapped[str] = mapped_column(default="New conversation")
    title_given: Mapped[bool] = mapped_column(default=False)
    model_tag: Mapped[str] = mapped_column(default="default")
    is_favorited: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    messages: Mapped[list["Message"]] = relationship(order_by="Message.position")


class Message(Base):
    __tablename__ = "messages"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id"))
    position: Mapped[int]
    role: Mapped[str]
    content: Mapped[str]
    status: Mapped[str] = mapped_column(default="complete")
    token_count: Mapped[int] = mapped_column(default=0)
    model_tag: Mapped[str] = mapped_column(default="default")
    inference_time_ms: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ConversationOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: str
    title: str
    model_tag: str
    is_favorited: bool
    created_at: datetime
    updated_at: datetime


class MessageOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    conversation_id: UUID
    role: str
    content: str
    status: str
    token_count: int
    model_tag: str
    inference_time_ms: int
    created_at: datetime


class ConversationWithMessages(ConversationOut):
    messages: list[MessageOut]


class ConversationPage(BaseModel):
    items: list[ConversationOut]
    grouped: dict[str, list[ConversationOut]]
    limit: int
    offset: int


class NewMessage(BaseModel):
    content: str


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield
    await client.aclose()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(CORSMiddleware, allow_origins=["http://localhost:3000"])


@app.middleware("http")
async def add_trace_id(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["x-trace-id"] = request.headers.get("x-trace-id", uuid4().hex)
    return response


async def get_db() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


async def get_user(authorization: Annotated[str, Header()]) -> str:
    response = await client.post(
        os.environ["AUTH_SERVICE_URL"] + "/auth/validate",
        json={"token": authorization.removeprefix("Bearer ")},
    )
    if response.status_code != 200:
        raise HTTPException(401)
    return str(response.json()["user"]["id"])


# Closed before the response streams: else a hundred streams would hold a hundred connections.
Db = Annotated[AsyncSession, Depends(get_db, scope="function")]
UserId = Annotated[str, Depends(get_user)]


@app.get("/api/conversations", response_model=ConversationPage)
async def list_conversations(db: Db, user: UserId, limit: int = 50, offset: int = 0) -> object:
    found = await db.scalars(
        select(Conversation)
        .where(Conversation.user_id == user)
        .order_by(Conversation.updated_at.desc(), Conversation.id.desc())
        .limit(limit)
        .offset(offset)
    )
    items = found.all()
    grouped = defaultdict(list)
    for item in items:
        grouped[item.updated_at.date().isoformat()].append(item)
    return {"items": items, "grouped": grouped, "limit": limit, "offset": offset}


@app.post("/api/conversations", response_model=ConversationOut, status_code=201)
async def create_conversation(db: Db, user: UserId) -> Conversation:
    conversation = Conversation(user_id=user)
    db.add(conversation)
    await db.commit()
    await db.refresh(conversation)
    return conversation


@app.get("/api/conversations/{conversation_id}", response_model=ConversationWithMessages)
async def read_conversation(db: Db, user: UserId, conversation_id: UUID) -> Conversation:
    conversation = await db.scalar(
        select(Conversation)
        .where(Conversation.id == conversation_id, Conversation.user_id == user)
        .options(selectinload(Conversation.messages))
    )
    if conversation is None:
        raise HTTPException(404)
    return conversation


@app.post("/api/conversations/{conversation_id}/messages")
async def send_message(
    db: Db, user: UserId, conversation_id: UUID, body: NewMessage
) -> StreamingResponse:
    conversation = await db.scalar(
        select(Conversation)
        .where(Conversation.id == conversation_id, Conversation.user_id == user)
        .options(selectinload(Conversation.messages))
    )
    if conversation is None:
        raise HTTPException(404)
    conversation.messages.append(
        Message(position=len(conversation.messages), role="user", content=body.content)
    )
    await db.commit()
    history = [{"role": m.role, "content": m.content} for m in conversation.messages]
    position = len(conversation.messages)

    async def events() -> AsyncIterator[str]:
        pieces = []
        async with client.stream(
            "POST", os.environ["INFERENCE_SERVICE_URL"] + "/generate", json={"messages": history}
        ) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                event = json.loads(line[6:])
                if "token" in event:
                    pieces.append(event["token"])
                yield f"data: {json.dumps(event)}\n\n"
        async with sessions() as session:
            session.add(
                Message(
                    conversation_id=conversation_id,
                    position=position,
                    role="assistant",
                    content="".join(pieces),
                )
            )
            await session.commit()

    return StreamingResponse(events(), media_type="text/event-stream")
