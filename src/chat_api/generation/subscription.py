"""One client's reading of one generation, whichever process runs it."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial

from chat_api import sse
from chat_api.db.database import Database
from chat_api.generation.log_follower import Follower, Place, Reading, SharedPage, Then
from chat_api.generation.registry import Registry
from chat_api.generation.running import RunningGeneration
from chat_api.generation.sink import Sink
from chat_api.generation.stored import stored_frames
from chat_api.telemetry import log

# How much of a generation that is sent as it was saved is sent at once.
_SLICE_BYTES = 65_536


class Subscription:
    """Writes a generation's events to a sink, from a cursor on, each once and in order.

    Events come from the memory of the process that runs the generation where this is it and they
    are still there, else from the log. With `one_attempt` (the response to a POST) the subscription
    ends without `done` where a later attempt begins; otherwise the client is sent `reset`. With
    `only_stored` a generation that has ended is sent as it was saved, whatever the log has. The
    frames of `preface` come first. With `from_log` nothing is shown that the log does not
    have: what was shown can be read again after any crash.
    """

    def __init__(
        self,
        db: Database,
        follower: Follower,
        registry: Registry,
        sink: Sink,
        message_id: str,
        *,
        attempt: int,
        number: int = -1,
        one_attempt: bool,
        only_stored: bool = False,
        preface: bytes = b"",
        from_log: bool = False,
        on_close: Callable[["Subscription"], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._follower = follower
        self._registry = registry
        self._sink = sink
        self.message_id = message_id
        self._attempt = attempt
        self._number = number
        self._one_attempt = one_attempt
        self._only_stored = only_stored
        self._preface = preface
        self._from_log = from_log
        self._on_close = on_close
        self._clock = clock
        self._running: RunningGeneration | None = None
        self._page: SharedPage | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._leaving = False
        self._is_stored = False
        self._beat = False
        self._urgent = True
        self._last_sent = clock()  # as far as `look_at_clock` knows
        self._looked_at = number  # its number then

    @property
    def place(self) -> Place:
        """Return message id, attempt, and the number of the last event that was sent."""
        return self.message_id, self._attempt, self._number

    @property
    def is_local(self) -> bool:
        """Return whether it reads, or has read, a generation of this process."""
        return self._running is not None

    @property
    def knows_end(self) -> bool:
        """Return whether the generation is known to have ended, with its end in the database."""
        return self._is_stored or (self._running is not None and self._running.saved)

    # --- what wakes it ---

    def wake(self) -> None:
        """Make `run` look for events to send."""
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    def show(self, frames: bytes, first: int, last: int) -> None:
        """Write new events at once: step 4 of the hot path (docs/decisions/0008).

        Only if nothing else must be sent before them, and the sink takes them without waiting;
        otherwise `run` is woken, and sends them.
        """
        if (
            self._number == first - 1
            and self._alarm is not None
            and not self._alarm.done()
            and self._sink.try_write(frames)
        ):
            self._number = last
        else:
            self.wake()

    def take(self, page: SharedPage) -> None:
        """Take a page of the log for this place."""
        self._page = page
        self.wake()

    def look_at_clock(
        self, now: float, *, heartbeat_seconds: float, slow_reader_seconds: float
    ) -> None:
        """Send a heartbeat after a silence; disconnect a client that reads nothing."""
        if self._number != self._looked_at:
            self._looked_at, self._last_sent = self._number, now
        blocked_since = self._sink.blocked_since
        if blocked_since is not None:
            if now - blocked_since > slow_reader_seconds:
                log.info("slow_subscription_dropped", message_id=self.message_id)
                self._sink.abort()
        elif now - self._last_sent > heartbeat_seconds:
            self._beat = True
            self.wake()

    def leave(self) -> None:
        """End before the next event: the client has disconnected or must reconnect."""
        self._leaving = True
        self.wake()

    def send_away(self) -> None:
        """End now, even if the client reads nothing: the process exits."""
        if self._sink.blocked_since is None:
            self.leave()
        else:
            self._sink.abort()

    # --- the reading ---

    async def run(self) -> None:
        """Write to the sink until the generation or the subscription ends."""
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                await self._sink.write(chunk)
                self._looked_at, self._last_sent = self._number, self._clock()

    def close(self) -> None:
        """Release everything; must be called after every end of the subscription."""
        if self._running is not None:
            self._running.subscribers.discard(self)
        self._follower.forget(self)
        self._on_close(self)

    async def _chunks(self) -> AsyncGenerator[bytes]:
        opening = sse.RETRY + self._preface
        if self._only_stored:
            yield opening
            async for piece in self._stored():
                yield piece
            return
        yield opening + self._in_memory()
        while not self._leaving:
            if self._beat:
                self._beat = False
                yield sse.HEARTBEAT
                continue
            running = self._local()
            chunk = None if running is None else running.after(self._number)
            if running is None or chunk is None:
                page = await self._next_page()
                if page is None:
                    continue
                reading = self._read(page)
                if reading.frames:
                    yield reading.frames
                if reading.then is Then.STORED:
                    async for piece in self._stored():
                        yield piece
                if reading.then is not Then.MORE:
                    return
            elif chunk[0]:
                frames, self._number = chunk
                yield frames
                if self._number < running.last_event:
                    await asyncio.sleep(0)  # a sink that takes everything waits for nothing
            elif not running.closed:
                await self._sleep()
            elif running.saved and self._number > running.last_event:
                # The cursor is ahead of all events: only what was saved can help.
                self._running = None
                running.subscribers.discard(self)
            else:
                return

    async def _sleep(self) -> None:
        self._alarm = asyncio.get_running_loop().create_future()
        await self._alarm
        self._alarm = None

    def _local(self) -> RunningGeneration | None:
        """Return the generation in memory, where this process runs the attempt that is read."""
        if self._from_log:
            return None
        if self._running is None:
            running = self._registry.running.get(self.message_id)
            if running is not None and running.attempt == self._attempt:
                running.subscribers.add(self)
                self._running = running
        if self._running is not None and self._running.rewritten and self._one_attempt:
            # The response to a POST never contains its `snapshot`: the log's page says what does.
            self._running.subscribers.discard(self)
            return None
        return self._running

    def _in_memory(self) -> bytes:
        """Return the frames that are there at once, and move to the place after them."""
        running = None if self._leaving else self._local()
        chunk = None if running is None else running.after(self._number)
        if chunk is None:
            return b""
        frames, self._number = chunk
        return frames

    async def _next_page(self) -> SharedPage | None:
        """Return the log's page for this place; None if something else woke `run`."""
        self._follower.ask(self, urgent=self._urgent)
        await self._sleep()
        self._follower.forget(self)
        page, self._page = self._page, None
        return page

    def _read(self, page: SharedPage) -> Reading:
        """Return the result of a page, and move to the place after it."""
        reading = page.read(one_attempt=self._one_attempt)
        if reading.attempt != self._attempt and self._running is not None:
            self._running.subscribers.discard(self)
            self._running = None
        self._attempt, self._number = reading.attempt, reading.number
        self._urgent = reading.urgent
        return reading

    async def _stored(self) -> AsyncIterator[bytes]:
        """Yield the saved generation; subscriptions that send the same share the bytes."""
        key = (self.message_id, self._one_attempt, (self._number > 0) - (self._number < 0))
        stored = self._follower.share(
            key,
            partial(
                stored_frames,
                self._db,
                self.message_id,
                self._number,
                one_attempt=self._one_attempt,
            ),
        )
        frames = await stored.frames() or b""
        self._is_stored = bool(frames)
        for at in range(0, len(frames), _SLICE_BYTES):
            if self._leaving:
                return
            yield frames[at : at + _SLICE_BYTES]
            await asyncio.sleep(0)
