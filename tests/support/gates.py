"""A gate: something that happens once, seen from any thread and any event loop.

The scripted servers live in threads of their own, tests in pytest's event loop: an
`asyncio.Event` belongs to one loop, a `threading.Event` cannot be awaited. A gate can be opened
and awaited from everywhere.
"""

import asyncio
import contextlib
import threading


class Gate:
    """Closed until somebody opens it; then open for good."""

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self._lock = threading.Lock()
        self._open = False
        self._arrived: Gate | None = None
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<Gate {self.name} {'open' if self._open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        """Has it been opened?"""
        return self._open

    @property
    def arrived(self) -> "Gate":
        """A gate that opens when the first one waits at this one (or passes it)."""
        with self._lock:
            if self._arrived is None:
                self._arrived = Gate(f"arrival at {self.name}")
            return self._arrived

    def open(self) -> None:
        """Let everybody through, now and later."""
        with self._lock:
            if self._open:
                return
            self._open = True
            waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            # A loop that is closed by now has no waiter in it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, waiter)

    async def wait(self, timeout: float | None = 15) -> None:
        """Wait until it is open; `timeout` in seconds, None without limit. Raises TimeoutError."""
        self.arrived.open()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._open:
                return
            self._waiters.append((loop, waiter))
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            raise TimeoutError(f"{self!r} was not opened within {timeout} s") from None
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._waiters.remove((loop, waiter))


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
