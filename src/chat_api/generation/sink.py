"""The connection that a subscription writes to, as `generation` needs it."""

from typing import Protocol


class Sink(Protocol):
    """Takes the bytes of one subscription."""

    @property
    def blocked_since(self) -> float | None:
        """Return the time since which a `write` waits (monotonic clock); None if none waits."""

    def try_write(self, data: bytes) -> bool:
        """Write at once, and return True; return False where that is not possible now."""

    async def write(self, data: bytes) -> None:
        """Write, waiting until the client reads."""

    def abort(self) -> None:
        """Reset the connection, without sending buffered bytes; end a waiting `write`."""


class Discard:
    """The sink of a client that wants only the result."""

    blocked_since = None

    def try_write(self, _data: bytes) -> bool:
        return True

    async def write(self, _data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass
