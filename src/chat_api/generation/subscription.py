"""One client's way through an answer, wherever it is written."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

from chat_api import sse
from chat_api.db import generations as db_generations
from chat_api.db.database import Database
from chat_api.errors import inference_failure
from chat_api.generation import events
from chat_api.generation.event_log import Follower, Reading, SharedPage, Then
from chat_api.generation.running import RunningGeneration

# How much of an answer that is told as it was saved is sent at once.
_SLICE_BYTES = 65_536


class Subscription:
    """Delivers an answer's events from a place on, each once and in order, until its end.

    Events come from the memory of the process that writes the answer where this is it and they are
    still there, else from the log. With `one_attempt` (the response to a POST) an answer that
    begins again ends the reading without `done`; otherwise the client is told `reset`. With
    `only_stored` an ended answer is told as it was saved, whatever the log has.
    """

    def __init__(
        self,
        db: Database,
        follower: Follower,
        running: Mapping[str, RunningGeneration],
        message_id: str,
        *,
        attempt: int,
        number: int = -1,
        one_attempt: bool,
        only_stored: bool = False,
        on_close: Callable[["Subscription"], None],
    ) -> None:
        self._db = db
        self._follower = follower
        self._running = running
        self.message_id = message_id
        self._attempt = attempt
        self._number = number
        self._one_attempt = one_attempt
        self._only_stored = only_stored
        self._on_close = on_close
        self._answer: RunningGeneration | None = None
        self._page: SharedPage | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._leaving = False
        self._beat = False
        self._urgent = True
        self.last_sent = time.monotonic()
        # Sends bytes at once, where the connection takes them: True if it did.
        self.write: Callable[[bytes], bool] | None = None
        # Set by whoever sends: since when it has been waiting for the client to take bytes.
        self.sending_since: float | None = None
        self.drop: Callable[[], None] = self.leave
        # Called once the reading has ended.
        self.at_end: Callable[[], None] | None = None

    @property
    def place(self) -> tuple[str, int, int]:
        return self.message_id, self._attempt, self._number

    @property
    def is_local(self) -> bool:
        """Whether it reads, or has read, what this process writes."""
        return self._answer is not None

    # --- what wakes it ---

    def wake(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    def show(self, frames: bytes, first: int, last: int) -> None:
        """Send new events in the moment they are there: the end of the hot path.

        Only where nothing else is to be sent before them, and nobody has to wait for the
        connection; else `chunks` sees to it.
        """
        if (
            self.write is not None
            and self._number == first - 1
            and self._alarm is not None
            and not self._alarm.done()
            and self.write(frames)
        ):
            self._number = last
            self.last_sent = time.monotonic()
        else:
            self.wake()

    def take(self, page: SharedPage) -> None:
        self._page = page
        self.wake()

    def leave(self) -> None:
        """End the reading at the next event: the client has gone, or is to reconnect."""
        self._leaving = True
        self.wake()

    def beat(self) -> None:
        """Send a heartbeat."""
        self._beat = True
        self.wake()

    def close(self) -> None:
        """Must be called when the reading has ended, however it did."""
        if self._answer is not None:
            self._answer.readers.discard(self)
        self._follower.forget(self)
        self._on_close(self)
        if self.at_end is not None:
            self.at_end()

    async def _sleep(self) -> None:
        self._alarm = asyncio.get_running_loop().create_future()
        await self._alarm
        self._alarm = None

    # --- the reading ---

    async def chunks(self) -> AsyncIterator[bytes]:
        """Event-stream bytes; the end of the iteration is the end of the response."""
        yield sse.RETRY
        if self._only_stored:
            async for piece in self._stored_slices():
                yield piece
            return
        while not self._leaving:
            if self._beat:
                self._beat = False
                yield sse.HEARTBEAT
                continue
            answer = self._local()
            chunk = None if answer is None else answer.after(self._number)
            if answer is None or chunk is None:
                page = await self._next_page()
                if page is None:
                    continue
                reading = self._read(page)
                if reading.frames:
                    yield reading.frames
                if reading.then is Then.STORED:
                    async for piece in self._stored_slices():
                        yield piece
                if reading.then is not Then.MORE:
                    return
            elif chunk[0]:
                frames, self._number = chunk
                yield frames
                if self._number < answer.last_event:
                    await asyncio.sleep(0)  # a connection that takes everything waits for nothing
            elif not answer.closed:
                await self._sleep()
            elif answer.saved and self._number > answer.last_event:
                # A cursor from the future: only the saved answer can help.
                self._answer = None
                answer.readers.discard(self)
            else:
                return

    def _local(self) -> RunningGeneration | None:
        """The answer in this process's memory, where it has this reader's attempt."""
        if self._answer is None:
            answer = self._running.get(self.message_id)
            if answer is not None and answer.attempt == self._attempt:
                answer.readers.add(self)
                self._answer = answer
        if self._answer is not None and self._answer.rewritten and self._one_attempt:
            # Its `snapshot` is nothing for the response to a POST: `_read_page` sees to that.
            self._answer.readers.discard(self)
            return None
        return self._answer

    async def _next_page(self) -> SharedPage | None:
        """What the log has for this place; None where something else woke the reader."""
        self._follower.ask(self, urgent=self._urgent)
        await self._sleep()
        self._follower.forget(self)
        page, self._page = self._page, None
        return page

    def _read(self, page: SharedPage) -> Reading:
        """Return what a page says, and go on to the place after it."""
        reading = page.read(one_attempt=self._one_attempt)
        if reading.attempt != self._attempt and self._answer is not None:
            self._answer.readers.discard(self)
            self._answer = None
        self._attempt, self._number = reading.attempt, reading.number
        self._urgent = reading.urgent
        return reading

    async def _stored_slices(self) -> AsyncIterator[bytes]:
        """Send the ended answer as it was saved. Readers that tell the same share the bytes."""
        key = (self.message_id, self._one_attempt, (self._number > 0) - (self._number < 0))
        stored = self._follower.share(key, self._stored)
        frames = await stored.frames()
        for at in range(0, len(frames or b""), _SLICE_BYTES):
            if self._leaving:
                return
            yield (frames or b"")[at : at + _SLICE_BYTES]
            await asyncio.sleep(0)

    async def _stored(self) -> bytes | None:
        """Return the frames of the ended answer from the database, where its events are gone.

        The ids of the events that were sent stand for the same bytes again. A snapshot has the id
        of the last event that it contains; a token with the whole text, which no event was, has an
        id that no event had.
        """
        begun = await db_generations.read_generation(self._db, self.message_id)
        if begun is None or begun.last_event is None or begun.done is None:
            return None
        content = await db_generations.read_content(self._db, self.message_id)
        if content is None and not begun.undone:
            return None  # replaced, and its log swept, in this moment: no end without the text
        final = ((begun.before_done or "") + begun.done).encode().split(b"\n")
        if begun.error is not None and not begun.before_done:  # as before migration 0003
            detail = inference_failure(begun.error).detail
            final.insert(0, events.error(begun.error, detail))
        frame = partial(events.frame, self.message_id, begun.attempt)
        numbered = list(enumerate(final, begun.last_event + 1 - len(final)))
        frames = [frame(number, data) for number, data in numbered if data]
        if self._one_attempt:
            if self._number > 0:
                return None
            if content:
                frames.insert(0, frame(begun.last_event + 1, events.token(content)))
            if self._number < 0:
                start = events.start(
                    begun.conversation_id, begun.message_id, begun.question_id, begun.attempt
                )
                frames.insert(0, frame(0, start))
        elif content is not None:
            # Among the final events, a line of nothing is where the snapshot was.
            place = final.index(b"") if b"" in final else 0
            number = numbered[place][0] if b"" in final else numbered[0][0] - 1
            frames.insert(place, frame(number, events.snapshot(content)))
        return b"".join(frames)
