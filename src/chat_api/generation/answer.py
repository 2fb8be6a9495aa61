"""One answer while this process writes it: its text, its newest events, its readers' alarm."""

import asyncio
import time
from collections import deque
from enum import Enum
from typing import Protocol

from chat_api import sse
from chat_api.db.answer_log import LogRow
from chat_api.db.answers import Lease
from chat_api.generation import events
from chat_api.generation.events import Written

# How long an event is kept in memory after the log has confirmed it: a database that loses its
# last moments (the log commits asynchronously) gets them again from here.
KEPT_SECONDS = 5.0
# So many pieces of text are joined at a time, which keeps them cheap in memory and in time.
_PIECES = 64


class StopReason(Enum):
    """Why an answer stops being written before its end."""

    STOPPED = "stopped"  # by the user
    SILENT = "silent"  # upstream said nothing for too long
    NOT_OURS = "not ours"  # deleted, taken by another process, or handed over


class Wakeable(Protocol):
    def wake(self) -> None: ...


class RunningAnswer:
    """The events of one attempt at an answer, numbered from 0.

    Every reader has a position of its own and shares these events. The newest events are kept, the
    older ones are in the log. `publish` never waits: a slow reader holds up nobody.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.message_id = lease.message_id
        self.attempt = lease.attempt
        self.began = time.monotonic()
        self.heard = self.began  # when upstream was last heard of
        self.token_count = 0
        self.chars = 0
        self.bytes = 0  # of what upstream has sent
        self.last_event = -1
        self.logged = -1  # the last event that the log has confirmed
        self.ending = False  # being saved: the log's opinion no longer matters
        self.closed = False  # nothing will follow
        self.rewritten = False  # its text is that of an earlier attempt: a `snapshot` says so
        self.stop_reason: StopReason | None = None
        self.pump: asyncio.Task[None] | None = None  # reads upstream; may be cancelled
        self.finished = asyncio.Event()
        self.readers: set[Wakeable] = set()
        self._frames: deque[bytes] = deque()
        self._batches: deque[tuple[int, float]] = deque()  # (last event, when confirmed)
        self._joined: list[str] = []
        self._pieces: list[str] = []
        self.saved = False
        self.publish(
            events.start(lease.conversation_id, lease.message_id, lease.question_id, lease.attempt)
        )

    @property
    def written(self) -> Written:
        """The text so far."""
        text = "".join((*self._joined, *self._pieces))
        self._joined = [text]
        self._pieces.clear()
        return Written(text, self.token_count)

    def add_text(self, piece: str) -> None:
        self.token_count += 1
        self.chars += len(piece)
        self._pieces.append(piece)
        if len(self._pieces) == _PIECES:
            self._joined.append("".join(self._pieces))
            self._pieces.clear()

    def replace_text(self, written: Written) -> None:
        self.rewritten = True
        self.token_count = written.token_count
        self.chars = len(written.text)
        self._joined = [written.text]
        self._pieces.clear()

    def publish(self, data: bytes) -> None:
        """Number an event and show it to every reader. `data` is JSON on one line."""
        self.last_event += 1
        event_id = events.event_id(self.message_id, self.attempt, self.last_event)
        self._frames.append(sse.encode(event_id, data))
        for reader in self.readers:
            reader.wake()

    def after(self, number: int) -> bytes | None:
        """The frames that follow event `number`; None where they are no longer in memory."""
        missing = self.last_event - number
        if missing <= 0:
            return b""
        if missing > len(self._frames):
            return None
        if missing == 1:
            return self._frames[-1]
        return b"".join([self._frames[place] for place in range(-missing, 0)])

    def close(self) -> None:
        """Nothing will follow: readers take what is left and go."""
        self.closed = True
        self.finished.set()
        for reader in self.readers:
            reader.wake()

    def stop_writing(self, reason: StopReason) -> None:
        """Close the upstream request; the answer's task walks on to its one exit.

        The first reason stands.
        """
        if self.stop_reason is None and not self.ending and self.pump is not None:
            self.stop_reason = reason
            self.pump.cancel()

    # --- the log's side ---

    def unlogged(self, final: bytes | None = None) -> LogRow | None:
        """What the log does not have yet, with `final` as one event more; None for nothing.

        Events that are neither in the log nor in memory any more become one snapshot of the text.
        """
        first, last = self.logged + 1, self.last_event
        missing = last - first + 1
        if missing > len(self._frames):
            # A row with fewer lines than numbers is a snapshot; it cannot hold another event.
            text = events.snapshot(self.written.text).decode()
            return LogRow(self.message_id, self.attempt, first, last, text)
        lines = [sse.data_of(self._frames[place]) for place in range(-missing, 0)]
        if final is not None:
            lines.append(final)
            last += 1
        if not lines:
            return None
        return LogRow(self.message_id, self.attempt, first, last, b"\n".join(lines).decode())

    def confirm(self, last_event: int) -> None:
        """The log has every event up to `last_event`."""
        self.logged = last_event
        self._batches.append((last_event, time.monotonic()))
        self._trim()

    def log_lost(self, last_event: int) -> None:
        """The log ends at `last_event`, earlier than it had confirmed."""
        self.logged = min(self.logged, last_event)
        self._batches.clear()

    def _trim(self) -> None:
        oldest = time.monotonic() - KEPT_SECONDS
        while self._batches and self._batches[0][1] < oldest:
            last_event, _ = self._batches.popleft()
            excess = last_event - (self.last_event - len(self._frames))
            for _ in range(min(excess, len(self._frames))):
                self._frames.popleft()
