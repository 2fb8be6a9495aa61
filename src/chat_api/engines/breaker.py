"""A circuit breaker: requests to an engine that does not respond fail in milliseconds."""

import time
from collections.abc import Callable

# After so many failed answers in a row, a request is tried only once.
_FAILURES_WITHOUT_RETRY = 3
# After so many in a row that took a whole timeout to fail, the engine is not asked for a while.
_TIMEOUTS = 3
_FIRST_SECONDS = 5.0
_MOST_SECONDS = 60.0


class Breaker:
    """Counts the failures of one engine in a row; any success ends the count.

    An engine that fails at once still gets every request, without retries. For an engine that does
    not respond the breaker opens, and lets a single request through after a pause. If that fails
    too, the next pause is twice as long. `clock` is monotonic, in seconds.
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
        self._timeouts = 0
        self._seconds = _FIRST_SECONDS
        self._open_until: float | None = None

    @property
    def allows_retries(self) -> bool:
        """Return whether a failed request may be tried again."""
        return self._failures < _FAILURES_WITHOUT_RETRY and self._open_until is None

    def admit(self) -> bool:
        """Return whether a request may be made. The first one after the pause is the trial."""
        if self._open_until is None:
            return True
        if self._clock() < self._open_until:
            return False
        # The others wait for the trial's end, which may take as long as any request.
        self._open_until = self._clock() + self._seconds
        return True

    def succeeded(self) -> None:
        """Note a success of the engine."""
        self._failures = self._timeouts = 0
        if self._open_until is not None:
            self._open_until, self._seconds = None, _FIRST_SECONDS
            self._notice(False)

    def failed(self, *, by_timeout: bool) -> None:
        """Note a failure before the first event."""
        self._failures += 1
        self._timeouts = self._timeouts + 1 if by_timeout else 0
        if self._open_until is not None:
            self._seconds = min(self._seconds * 2, _MOST_SECONDS)
            self._open_until = self._clock() + self._seconds
        elif self._timeouts >= _TIMEOUTS:
            self._open_until = self._clock() + self._seconds
            self._notice(True)
