"""The receiver of an engine's events, in tests."""

from chat_api.engines.engine import Event, EventReceiver


class Collected(EventReceiver):
    """Keeps the events in their order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def take(self, arrived: list[Event], /) -> None:
        self.events += arrived

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)
