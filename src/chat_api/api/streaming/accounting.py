"""How many event streams each user has open in this process."""

from collections import Counter

from chat_api.errors import TooManyStreams

# Retry-After for too many streams; when one ends is not known.
_STREAM_RETRY_SECONDS = 5


class OpenStreams:
    """Counts open streams by user. `most` is the limit for each; 0 means none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def enter(self, user_id: str) -> None:
        """Count a stream until `leave`. Raise TooManyStreams if the user has reached the limit."""
        if self._most and self._open[user_id] >= self._most:
            raise TooManyStreams(self._most, _STREAM_RETRY_SECONDS)
        self._open[user_id] += 1

    def leave(self, user_id: str) -> None:
        self._open[user_id] -= 1
        if not self._open[user_id]:
            del self._open[user_id]
