"""A client of the chat API: JSON calls, live event streams, and bytes on a bare socket.

conversation = await alice.create()
async with alice.send(conversation["id"], "Hi") as stream:
    await stream.until("token")
    await stream.close()                    # cut the connection
answer = await alice.ask(conversation["id"], "Hi")    # Accept: application/json
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import httpx2
from tests.support.auth import Account
from tests.support.events import Event, StrictReader, text_of
from tests.support.service import Service

DEADLINE = 20.0


class StreamEndedError(AssertionError):
    """The stream is over, and what was waited for did not come."""


class Stream:
    """A live event stream. A task of its own reads it, so that waiting loses nothing."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.reader = StrictReader()
        self.events: list[Event] = []
        """Every event handed out so far."""
        self.error: BaseException | None = None
        """Why reading ended early, where it did."""
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._over = False
        self._task = asyncio.create_task(self._read(), name="stream reader")

    @property
    def status(self) -> int:
        """The status of the response."""
        return self.response.status_code

    @property
    def headers(self) -> httpx2.Headers:
        """The headers of the response."""
        return self.response.headers

    @property
    def raw(self) -> bytes:
        """Every byte so far."""
        return bytes(self.reader.raw)

    @property
    def text(self) -> str:
        """The answer's text, as far as it has been handed out."""
        return text_of(self.events)

    @property
    def cursor(self) -> str:
        """The id of the last event handed out."""
        return self.events[-1].id

    @property
    def start(self) -> dict[str, Any]:
        """What the `start` event says."""
        start: dict[str, Any] = self.events[0].data["start"]
        return start

    @property
    def done(self) -> dict[str, Any]:
        """The last event, which must be `done`."""
        assert self.events, "no events"
        assert self.events[-1].kind == "done", f"the last event is {self.events[-1]}"
        return self.events[-1].data

    async def next(self, timeout: float = DEADLINE) -> Event:
        """The next event. Raises StreamEndedError at the end."""
        if self._over:
            raise StreamEndedError(f"the stream is over: {self._summary()}")
        try:
            async with asyncio.timeout(timeout):
                event = await self._queue.get()
        except TimeoutError:
            raise AssertionError(f"no event within {timeout} s: {self._summary()}") from None
        if event is None:
            self._over = True
            if self.error is not None:
                raise StreamEndedError(f"the stream broke: {self._summary()}") from self.error
            raise StreamEndedError(f"the stream is over: {self._summary()}")
        self.events.append(event)
        return event

    async def until(
        self, wanted: str | Callable[[Event], bool], timeout: float = DEADLINE
    ) -> Event:
        """The next event of this kind, or that this holds for; those before it are read too."""
        async with asyncio.timeout(timeout):
            while True:
                event = await self.next(timeout)
                if event.kind == wanted if isinstance(wanted, str) else wanted(event):
                    return event

    async def until_text(self, text: str, timeout: float = DEADLINE) -> None:
        """Read until the answer's text so far contains `text`."""
        async with asyncio.timeout(timeout):
            while text not in self.text:
                await self.next(timeout)

    async def rest(self, timeout: float = DEADLINE) -> list[Event]:
        """Everything up to the end of the stream, which may be any end that HTTP allows."""
        events = []
        async with asyncio.timeout(timeout):
            while True:
                try:
                    events.append(await self.next(timeout))
                except StreamEndedError:
                    if self.error is not None:
                        raise
                    return events

    async def close(self) -> None:
        """Cut the connection."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.response.aclose()

    async def problem(self) -> dict[str, Any]:
        """The JSON body of a response that is no stream."""
        await self._task
        body: dict[str, Any] = json.loads(self.raw)
        return body

    def _summary(self) -> str:
        last = [event.data for event in self.events[-3:]]
        return f"status {self.status}, {len(self.events)} events, last {last}, {self.error!r}"

    async def _read(self) -> None:
        streaming = self.headers.get("content-type", "").startswith("text/event-stream")
        try:
            async for data in self.response.aiter_raw():
                if not streaming:
                    self.reader.raw += data
                    continue
                for event in self.reader.feed(data):
                    self._queue.put_nowait(event)
            if streaming:
                self.reader.end()
        except (httpx2.HTTPError, AssertionError) as error:
            self.error = error
        finally:
            self._queue.put_nowait(None)


class Client:
    """One user's view of one replica."""

    def __init__(self, url: str, account: Account | None = None) -> None:
        self.url = url
        self.account = account
        self.http = httpx2.AsyncClient(
            base_url=url,
            headers=account.headers if account else {},
            timeout=httpx2.Timeout(DEADLINE),
            limits=httpx2.Limits(max_connections=2000, max_keepalive_connections=100),
            verify=False,  # a TLS context costs 20 ms to make, and nothing here is TLS
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.http.aclose()

    @property
    def user_id(self) -> str:
        """Who this is."""
        assert self.account is not None, "a client without an account"
        return self.account.id

    # Plain calls.

    async def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Any request; the options are httpx2's."""
        return await self.http.request(method, path, **options)

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        """GET."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx2.Response:
        """POST."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> httpx2.Response:
        """PUT."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> httpx2.Response:
        """PATCH."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> httpx2.Response:
        """DELETE."""
        return await self.request("DELETE", path, **options)

    # What tests do all the time; each fails where the service does not say yes.

    async def create(self, **fields: Any) -> dict[str, Any]:
        """A new conversation."""
        response = await self.post("/api/conversations", json=fields)
        assert response.status_code == 201, response.text
        conversation: dict[str, Any] = response.json()
        return conversation

    async def conversation(self, conversation_id: str, **params: Any) -> dict[str, Any]:
        """A conversation with its messages."""
        response = await self.get(f"/api/conversations/{conversation_id}", params=params)
        assert response.status_code == 200, response.text
        conversation: dict[str, Any] = response.json()
        return conversation

    async def messages(self, conversation_id: str) -> list[dict[str, Any]]:
        """The messages of a conversation."""
        messages: list[dict[str, Any]] = (await self.conversation(conversation_id))["messages"]
        return messages

    async def ask(self, conversation_id: str, content: str, **options: Any) -> dict[str, Any]:
        """Send a message and wait for the answer (JSON)."""
        response = await self.ask_raw(conversation_id, {"content": content, **options})
        assert response.status_code == 200, response.text
        message: dict[str, Any] = response.json()
        return message

    async def ask_raw(
        self, conversation_id: str, body: Mapping[str, Any], **headers: str
    ) -> httpx2.Response:
        """The same, whatever comes of it."""
        return await self.post(
            f"/api/conversations/{conversation_id}/messages",
            json=body,
            headers={"accept": "application/json", **headers},
        )

    # Streams.

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, path: str, *, expect: int | None = 200, **options: Any
    ) -> AsyncIterator[Stream]:
        """A request whose response is read as it comes; `expect` is the status it must have."""
        options["headers"] = {"accept": "text/event-stream", **(options.get("headers") or {})}
        request = self.http.build_request(method, path, **options)
        stream = Stream(await self.http.send(request, stream=True))
        try:
            if expect is not None and stream.status != expect:
                raise AssertionError(f"{stream.status}: {await stream.problem()}")
            yield stream
        finally:
            await stream.close()

    def send(
        self, conversation_id: str, content: str, *, expect: int | None = 200, **fields: Any
    ) -> contextlib.AbstractAsyncContextManager[Stream]:
        """Send a message, answered as a stream. `headers=` go with the request."""
        headers = fields.pop("headers", None)
        return self.stream(
            "POST",
            f"/api/conversations/{conversation_id}/messages",
            json={"content": content, **fields},
            headers=headers,
            expect=expect,
        )

    def regenerate(
        self, conversation_id: str, *, expect: int | None = 200, **fields: Any
    ) -> contextlib.AbstractAsyncContextManager[Stream]:
        """Regenerate the last answer, as a stream."""
        headers = fields.pop("headers", None)
        return self.stream(
            "POST",
            f"/api/conversations/{conversation_id}/regenerate",
            json=fields,
            headers=headers,
            expect=expect,
        )

    def join(
        self,
        conversation_id: str,
        cursor: str | None = None,
        *,
        expect: int | None = 200,
        **params: Any,
    ) -> contextlib.AbstractAsyncContextManager[Stream]:
        """Join the running answer, after `cursor` where given (as `Last-Event-ID`)."""
        return self.stream(
            "GET",
            f"/api/conversations/{conversation_id}/stream",
            params=params,
            headers={"last-event-id": cursor} if cursor is not None else None,
            expect=expect,
        )


class MakeClient(Protocol):
    """Makes a client of this service; without an account it has no credentials."""

    def __call__(self, service: Service, account: Account | None = None) -> Client: ...


def trace_id() -> str:
    """A well-formed trace id."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class RawResponse:
    """A response read from a bare socket; `status` is 0 where the connection just ended."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def raw_exchange(
    url: str, pieces: bytes | Iterable[bytes], timeout: float = DEADLINE
) -> RawResponse:
    """Send bytes as they are and read until the other side closes or the response is complete."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    try:
        async with asyncio.timeout(timeout):
            # The other side may refuse and close while we are still writing.
            with contextlib.suppress(ConnectionError):
                for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                    writer.write(piece)
                    await writer.drain()
            return await _response(reader)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _response(reader: asyncio.StreamReader) -> RawResponse:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return RawResponse(0, {}, b"")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    body = b""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        else:
            body = await reader.read()
    return RawResponse(int(first.split(" ")[1]), headers, body)
