"""A generation that this process runs: its text, its newest events, its subscribers."""

import asyncio
import math
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Protocol

from chat_api import sse
from chat_api.db.event_log import LogRow
from chat_api.db.generations import Lease
from chat_api.engines.engine import Usage
from chat_api.generation import events
from chat_api.generation.events import Written
from chat_api.tracing import Span

# How long an event is kept in memory after the log has confirmed it. Its commits are asynchronous:
# what a database server loses when it dies is written again from memory.
KEPT_SECONDS = 5.0
# How long a batch collects confirmed events, which are cheaper to keep together.
_BATCH_SECONDS = 1.0
# The size of a chunk for a subscription, and of a batch.
_CHUNK_BYTES = 65_536
# About what an event has around its JSON.
_FRAME_BYTES = 40
# How many chunks are kept for other subscriptions at the same place.
_KEPT_CHUNKS = 4


class StopReason(Enum):
    """Why a generation is stopped before the engine's end."""

    STOPPED = "stopped"  # by the user
    SILENT = "silent"  # the engine sent nothing for too long
    REFUSED = "refused"  # the database does not take its events
    STALLED = "stalled"  # it stalled its process again and again
    NOT_OURS = "not ours"  # deleted, taken by another process, or handed over


class Subscriber(Protocol):
    """A subscription, as the running generation knows it."""

    def show(self, frames: bytes, first: int, last: int) -> None:
        """Write the new events, whose numbers are `first` to `last`, at once if possible."""

    def wake(self) -> None:
        """Make its task look for events to send."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of this attempt: a text, and the number of the last event in it."""

    written: Written
    last_event: int
    usage: Usage | None = None
    """The usage of the beginning, if its end was saved."""
    took_ms: int = 0
    begins_again: bool = False
    """Whether clients must discard the shown text; the numbers of events continue."""


@dataclass(slots=True)
class _Batch:
    """Events that the log has confirmed: their JSON in one piece, a line each.

    A batch that is complete is packed: it is read only by a client that joins, and after the
    database has lost it.
    """

    first: int
    last: int
    lines: bytes
    begun: float
    confirmed: float  # the last of them
    is_packed: bool = False

    def pack(self) -> None:
        # A small window: with the usual one, zlib clears 256 KB first, ten times the work.
        packer = zlib.compressobj(1, zlib.DEFLATED, -10, 3)
        self.lines = packer.compress(self.lines) + packer.flush()
        self.is_packed = True

    def events(self) -> list[bytes]:
        """Return the JSON of each event."""
        lines = zlib.decompress(self.lines, -15) if self.is_packed else self.lines
        return lines.split(b"\n")


class RunningGeneration:
    """The events of one attempt, numbered from 0, or on from its beginning.

    Every subscription has a position of its own and shares these events. The newest events are
    kept, older ones are in the log. Showing events never waits for a slow subscription.
    """

    # More attributes than an instance's dictionary shares the keys of.
    __slots__ = (
        "_batches",
        "_chunks",
        "_clock",
        "_closing",
        "_id_prefix",
        "_looked_at",
        "_reasoning",
        "_shown",
        "_text",
        "_unconfirmed",
        "attempt",
        "began",
        "beginning",
        "bytes",
        "chars",
        "closed",
        "ending",
        "finish_reason",
        "heard",
        "is_ours",
        "last_event",
        "lease",
        "logged",
        "message_id",
        "model_tag",
        "pump",
        "reasoning_chars",
        "refused",
        "rewritten",
        "saved",
        "span",
        "stop_reason",
        "subscribers",
        "token_count",
        "usage",
    )

    def __init__(
        self,
        lease: Lease,
        beginning: Beginning | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.lease = lease
        self.message_id = lease.message_id
        self.attempt = lease.attempt
        self.began = clock()
        self.heard = self.began  # when the engine last sent something, as far as `look` knows
        self.token_count = 0
        self.chars = 0
        self.bytes = 0  # of events that the engine has sent
        self.reasoning_chars = 0
        self.model_tag = lease.model_tag  # of the model that writes, once that is settled
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.last_event = -1
        self.logged = -1  # the last event that the log has confirmed
        self.ending = False  # its end is being saved: what the log says does not matter any more
        self.closed = False  # nothing will follow
        self.refused = False  # the database does not take all of its events
        self.rewritten = False  # its text is that of an earlier attempt: a `snapshot` says so
        self.stop_reason: StopReason | None = None
        self.is_ours = False  # an engine writes it for this process
        self.pump: asyncio.Task[None] | None = None  # waits for the engine; may be cancelled
        self._closing: asyncio.Future[None] | None = None  # for `until_closed`
        self.subscribers: set[Subscriber] = set()
        self._id_prefix = sse.id_prefix(events.event_id_prefix(self.message_id, self.attempt))
        self._shown = -1  # the last event that subscribers were shown
        self._looked_at = 0  # the last event when `look` was called; 0 is the start
        self._batches: list[_Batch] = []  # those of the last seconds
        self._unconfirmed: list[bytes] = []  # the JSON of the newest events
        self._chunks: dict[int, tuple[bytes, int]] = {}  # the last ones made, by place
        # UTF-8 in one piece each: hundreds of small strings would take four times the memory.
        self._text = bytearray()
        self._reasoning = bytearray()
        self.saved = False
        self.span: Span | None = None
        self.beginning = beginning
        if beginning is not None:
            self._go_on_from(beginning)
            if beginning.begins_again:
                self.publish(events.reset(lease.attempt))
            return
        self.publish(
            events.start(lease.conversation_id, lease.message_id, lease.question_id, lease.attempt)
        )

    def _go_on_from(self, beginning: Beginning) -> None:
        """Start with the text and events that the log has."""
        self.last_event = self.logged = self._shown = beginning.last_event
        self._set_text(beginning.written)
        self.bytes = len(self._text)

    @property
    def has_begun(self) -> bool:
        """Return whether the engine has sent anything."""
        if (beginning := self.beginning) is None:
            return self.last_event > 0
        return self.last_event > beginning.last_event + beginning.begins_again

    def look(self, now: float) -> None:
        """Note whether there are new events. Reading a clock for each of them would cost more."""
        if self.last_event != self._looked_at:
            self._looked_at = self.last_event
            self.heard = now

    @property
    def written(self) -> Written:
        """Return the text so far, and how many tokens it has."""
        return Written(self._text.decode(), self.token_count, self._reasoning.decode())

    def replace_text(self, written: Written) -> None:
        """Replace the text by that of an earlier attempt; the caller publishes a `snapshot`."""
        self.rewritten = True
        self._set_text(written)
        # Not every subscription may be shown the snapshot: each looks for itself.
        for subscriber in self.subscribers:
            subscriber.wake()

    def keep(self, written: Written) -> None:
        """Replace the text; drop the events that are not in the log."""
        self.refused = True
        self._set_text(written)
        self._batches.clear()
        self._unconfirmed.clear()
        self._chunks.clear()

    def _set_text(self, written: Written) -> None:
        self.token_count = written.token_count
        self.chars = len(written.text)
        self.reasoning_chars = len(written.reasoning)
        self._text = bytearray(written.text.encode())
        self._reasoning = bytearray(written.reasoning.encode())

    def publish(self, data: bytes) -> None:
        """Number an event and show it to every subscriber. `data` is JSON on one line."""
        self.add(data)
        self.show()

    def add(self, data: bytes, text: str = "") -> None:
        """Number an event, with its piece of the text; `show` shows it: step 3 of the hot path."""
        self.last_event += 1
        self._unconfirmed.append(data)
        if text:
            self.token_count += 1
            self.chars += len(text)
            self._text += text.encode()

    def add_reasoning(self, data: bytes, reasoning: str) -> None:
        """Number an event with a piece of reasoning, which is not text."""
        self.add(data)
        self.reasoning_chars += len(reasoning)
        self._reasoning += reasoning.encode()

    def show(self) -> None:
        """Show the subscribers the added events; those that are up to date send them at once."""
        first, last = self._shown + 1, self.last_event
        self._shown = last
        if first > last or not self.subscribers:
            return
        if first == last:
            frames = sse.numbered(self._id_prefix, last, self._unconfirmed[-1])
        else:
            frames = self._frames(first, self._unconfirmed[first - last - 1 :])
        for subscriber in self.subscribers:
            subscriber.show(frames, first, last)

    def after(self, number: int) -> tuple[bytes, int] | None:
        """Return the frames that follow event `number`, as far as one chunk, and the last's number.

        None where they are not in memory any more. Subscriptions at the same place share the bytes.
        """
        if number >= self.last_event:
            return b"", number
        if (chunk := self._chunks.get(number)) is not None:
            return chunk
        lines = self._lines_from(number + 1, _CHUNK_BYTES)
        if lines is None:
            return None
        chunk = self._frames(number + 1, lines), number + len(lines)
        if chunk[1] < self.last_event:
            self._chunks[number] = chunk
            if len(self._chunks) > _KEPT_CHUNKS:
                del self._chunks[next(iter(self._chunks))]
        return chunk

    def _frames(self, first: int, lines: Sequence[bytes]) -> bytes:
        return b"".join(
            sse.numbered(self._id_prefix, number, line) for number, line in enumerate(lines, first)
        )

    def _lines_from(self, first: int, most_bytes: float = math.inf) -> list[bytes] | None:
        """Return the JSON of the events from `first` on; None where some are not in memory.

        With `most_bytes`, only as many as make frames of about that size; at least one.
        """
        lines: list[bytes] = []
        unconfirmed = self.last_event + 1 - len(self._unconfirmed)
        if first < unconfirmed:
            if not self._batches or first < self._batches[0].first:
                return None
            begin = bisect_left(self._batches, first, key=lambda batch: batch.last)
            for batch in islice(self._batches, begin, None):
                kept = islice(batch.events(), max(0, first - batch.first), None)
                most_bytes = _take(lines, kept, most_bytes)
                if most_bytes <= 0:
                    return lines
        _take(lines, islice(self._unconfirmed, max(0, first - unconfirmed), None), most_bytes)
        return lines

    def close(self) -> None:
        """Mark the events as complete: subscriptions send the rest, and end."""
        self.closed = True
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)
        for subscriber in self.subscribers:
            subscriber.wake()

    async def until_closed(self) -> None:
        """Return once no more events follow."""
        if not self.closed:
            if self._closing is None:
                self._closing = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closing)

    def stop_writing(self, reason: StopReason) -> None:
        """Close the engine's connection; the generation's task goes on to its one exit.

        The first reason counts.
        """
        if self.stop_reason is None and not self.ending and self.pump is not None:
            self.stop_reason = reason
            self.pump.cancel()

    # --- the event log ---

    def unlogged(self, final: bytes | None = None) -> LogRow | None:
        """Return the events that are not in the log, and `final` after them; None for none.

        Events that are neither in the log nor in memory become one snapshot of the text.
        """
        first, last = self.logged + 1, self.last_event
        lines = self._lines_from(first)
        if lines is None:
            # A snapshot's row cannot hold another event.
            written = self.written
            text = events.snapshot(written.text, written.reasoning).decode()
            return LogRow(self.message_id, self.attempt, first, last, text, is_snapshot=True)
        if final is not None:
            lines = [*lines, final]
            last += 1
        if not lines:
            return None
        text = b"\n".join(lines).decode()
        return LogRow(self.message_id, self.attempt, first, last, text, is_snapshot=False)

    def confirm(self, last_event: int) -> None:
        """Note that the log has every event up to `last_event`."""
        now = self._clock()
        self.logged = last_event
        first = self.last_event + 1 - len(self._unconfirmed)
        count = last_event + 1 - first
        while count > 0:
            lines: list[bytes] = []
            _take(lines, islice(self._unconfirmed, count), _CHUNK_BYTES)
            self._keep(first, lines, now)
            del self._unconfirmed[: len(lines)]
            first += len(lines)
            count -= len(lines)
        while self._batches and self._batches[0].confirmed < now - KEPT_SECONDS:
            del self._batches[0]

    def _keep(self, first: int, lines: list[bytes], now: float) -> None:
        """Keep events that the log has confirmed, together with the newest if both are few."""
        last, joined = first + len(lines) - 1, b"\n".join(lines)
        newest = self._batches[-1] if self._batches else None
        if (
            newest is not None
            and now - newest.begun < _BATCH_SECONDS
            and len(newest.lines) + len(joined) < _CHUNK_BYTES
        ):
            newest.lines += b"\n" + joined
            newest.last, newest.confirmed = last, now
        else:
            if newest is not None:
                newest.pack()
            self._batches.append(_Batch(first, last, joined, now, now))

    def log_lost(self, last_event: int) -> None:
        """Note that the log ends at `last_event`, earlier than it had confirmed.

        Nothing that is in memory is dropped before the log has confirmed it again.
        """
        self.logged = min(self.logged, last_event)
        if self._batches:
            self._unconfirmed = list(self._lines_from(self._batches[0].first) or ())
            self._batches.clear()


def _take(lines: list[bytes], more: Iterable[bytes], most_bytes: float) -> float:
    """Append lines until their frames reach `most_bytes`; return what is left of it."""
    for line in more:
        lines.append(line)
        most_bytes -= len(line) + _FRAME_BYTES
        if most_bytes <= 0:
            break
    return most_bytes
