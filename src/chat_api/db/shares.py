"""Bounds on the connections that wait for the same rows.

A write takes locks on rows of its user and its conversation. While a transaction holds such a lock,
all writes behind it wait with a connection each; without a bound they take the whole pool.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from contextvars import ContextVar

conversation_id_var: ContextVar[str] = ContextVar("conversation_id", default="")


class _Queue:
    __slots__ = ("used", "waiting")

    def __init__(self) -> None:
        self.used = 0
        self.waiting: deque[asyncio.Future[None]] = deque()


class StillLocked(Exception):
    """The holder in front has given up waiting for a lock."""


class Shares:
    """At most so many holders of each key at once; the others wait for their turn."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    async def enter(self, bounds: Mapping[str, int], seconds: float) -> None:
        """Hold each key, of which there may be the given number, until `leave`.

        Raise StillLocked where a holder was refused meanwhile (`refuse`), TimeoutError after
        `seconds` of waiting; then none is held.
        """
        entered: list[str] = []
        try:
            for key, most in bounds.items():
                if not self._try_to_enter(key, most):
                    break
                entered.append(key)
            else:  # there is nothing to wait for
                return
            async with asyncio.timeout(seconds):
                for key, most in bounds.items():
                    if key not in entered:
                        await self._enter(key, most)
                        entered.append(key)
        except BaseException:
            self.leave(entered)
            raise

    def leave(self, keys: Iterable[str]) -> None:
        """Let the next holder of each key go on."""
        for key in keys:
            self._leave(key)

    def refuse(self, keys: Mapping[str, int]) -> None:
        """Make all that wait for these keys fail."""
        for key in keys:
            queue = self._queues.get(key)
            for turn in queue.waiting if queue is not None else ():
                if not turn.done():
                    turn.set_exception(StillLocked())

    def _try_to_enter(self, key: str, most: int) -> bool:
        queue = self._queues.setdefault(key, _Queue())
        if queue.used < most:
            queue.used += 1
            return True
        return False

    async def _enter(self, key: str, most: int) -> None:
        if self._try_to_enter(key, most):
            return
        queue = self._queues[key]
        turn = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(key)  # the turn came in the same moment
            raise

    def _leave(self, key: str) -> None:
        queue = self._queues[key]
        while queue.waiting:
            turn = queue.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        queue.used -= 1
        if queue.used == 0:
            del self._queues[key]
