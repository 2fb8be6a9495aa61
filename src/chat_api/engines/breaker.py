"""A circuit breaker: an engine that is down costs its callers milliseconds, not timeouts."""

import time
from collections.abc import Callable

_FAILURES = 5
_FIRST_SECONDS = 5.0
_MOST_SECONDS = 60.0


class Breaker:
    """Opens after several failures in a row; lets one request through when its time is up.

    While it is open nothing is asked of the engine. If the one request fails, it stays open for
    twice as long; any success closes it. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        notice: Callable[[bool], object] = lambda _is_open: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`notice` is told when the breaker opens and closes."""
        self._notice = notice
        self._clock = clock
        self._failures = 0
        self._seconds = _FIRST_SECONDS
        self._open_until: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests are refused now."""
        return self._open_until is not None and self._clock() < self._open_until

    def admit(self) -> bool:
        """Whether a request may be made. The first one after the time is the trial."""
        if self._open_until is None:
            return True
        if self._clock() < self._open_until:
            return False
        # Until the trial has ended, the others wait: it may take as long as any request.
        self._open_until = self._clock() + self._seconds
        return True

    def succeeded(self) -> None:
        """The engine has answered."""
        self._failures = 0
        if self._open_until is not None:
            self._open_until, self._seconds = None, _FIRST_SECONDS
            self._notice(False)

    def failed(self) -> None:
        """The engine could not be reached, was silent or broke down."""
        self._failures += 1
        if self._open_until is not None:
            self._seconds = min(self._seconds * 2, _MOST_SECONDS)
            self._open_until = self._clock() + self._seconds
        elif self._failures >= _FAILURES:
            self._open_until = self._clock() + self._seconds
            self._notice(True)
