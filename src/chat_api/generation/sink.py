"""The connection that a subscription writes to, as `generation` needs it."""

from typing import Protocol


class Sink(Protocol):
    """Takes the bytes of one subscription."""

    @property
    def blocked_since(self) -> float | None:
        """Since when a `write` waits for the client (monotonic clock); None where none waits."""

    def try_write(self, data: bytes) -> bool:
        """Write at once, and return True; return False where that is not possible now."""

    async def write(self, data: bytes) -> None:
        """Write, waiting for a client that does not take its bytes."""

    def abort(self) -> None:
        """Cut the connection off, without sending what waits; end a `write` that waits."""


class Discard:
    """The sink of a client that wants only the result."""

    blocked_since = None

    def try_write(self, _data: bytes) -> bool:
        return True

    async def write(self, _data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass
