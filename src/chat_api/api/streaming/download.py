"""Downloads as responses: made while they are sent, in pieces of bounded size."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chat_api.api.streaming.connection import CONNECTION, Connection
from chat_api.db.database import StatementRefused
from chat_api.errors import ApiError
from chat_api.telemetry import log


class Download(Response):
    """Sends pieces until they end or the client goes away.

    What fails on the way, and a client that takes nothing for too long, cut the connection: the
    client sees that the file is incomplete.
    """

    def __init__(
        self,
        pieces: AsyncIterator[str],
        *,
        name: str,
        media_type: str,
        slow_reader_seconds: float,
    ) -> None:
        self._pieces = pieces
        self._slow_reader_seconds = slow_reader_seconds
        self.status_code = 200
        self.background = None
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        # Not `init_headers`: it would add a content-length.
        self.raw_headers = [
            (b"content-type", media_type.encode()),
            (b"content-disposition", disposition.encode()),
        ]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        connection: Connection = scope[CONNECTION]
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.Event()
        connection.open(gone.set)
        try:
            await self._send(connection, gone)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not connection.is_aborted or task is None:
                raise
            task.uncancel()
        finally:
            connection.close()

    async def _send(self, connection: Connection, gone: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for piece in self._pieces:
                if gone.is_set():
                    return
                if not piece:
                    continue
                timer = loop.call_later(self._slow_reader_seconds, connection.abort)
                try:
                    await connection.write(piece.encode())
                finally:
                    timer.cancel()
        except (ApiError, StatementRefused) as error:
            log.warning("download_ended_early", error=type(error).__name__)
            connection.abort()
            await asyncio.sleep(0)  # the abort's cancellation arrives here
        await connection.finish()
