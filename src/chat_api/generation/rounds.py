"""Reading a table for all waiting subscriptions, in one statement per round."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from chat_api.db.database import StatementRefused

PlaceT = TypeVar("PlaceT", bound=Hashable)
PageT = TypeVar("PageT")
PlaceT_co = TypeVar("PlaceT_co", bound=Hashable, covariant=True)
SharedT_contra = TypeVar("SharedT_contra", contravariant=True)
SharedT = TypeVar("SharedT")


class Waiting(Protocol[PlaceT_co, SharedT_contra]):
    """A subscription, as rounds use it. It is hashable."""

    @property
    def place(self) -> PlaceT_co:
        """Return the place after which it waits for rows."""

    def take(self, page: SharedT_contra, /) -> None:
        """Take a page of new rows."""

    def leave(self) -> None:
        """End: the rows after its place cannot be read."""


class Rounds(ABC, Generic[PlaceT, PageT, SharedT]):
    """Reads one page for each place at which subscriptions wait, all in one statement a round.

    Subscriptions at the same place are given the same page. One that has sent its page asks again,
    and is then the last in the queue.
    """

    def __init__(self, *, every_seconds: float) -> None:
        self._every = every_seconds
        self._waiting: dict[Waiting[PlaceT, SharedT], None] = {}  # in the order of asking
        self._present = asyncio.Event()  # a subscription waits
        self._asked = asyncio.Event()  # one is not to wait for the next round

    @abstractmethod
    async def _read(self, places: Sequence[PlaceT]) -> dict[int, PageT]:
        """Return the pages with new rows, by the index of their place."""

    @abstractmethod
    def _shared(self, page: PageT, place: PlaceT) -> SharedT:
        """Return the page that all subscriptions at the place share."""

    def ask(self, subscription: Waiting[PlaceT, SharedT], *, urgent: bool) -> None:
        """Queue a subscription: its `take` is called when there are new rows at its place.

        With `urgent`, for one that is behind, the next round comes at once.
        """
        self._waiting[subscription] = None
        self._present.set()
        if urgent:
            self._asked.set()

    def forget(self, subscription: Waiting[PlaceT, SharedT]) -> None:
        """Remove a subscription from the queue."""
        self._waiting.pop(subscription, None)

    async def step(self) -> None:
        """Read one round, once a subscription waits."""
        await self._present.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), self._every)
        self._asked.clear()
        if not self._waiting:
            self._present.clear()
            return
        waiting: dict[PlaceT, list[Waiting[PlaceT, SharedT]]] = {}
        for subscription in self._waiting:
            waiting.setdefault(subscription.place, []).append(subscription)
        places = list(waiting)
        for index, page in (await self._pages(places)).items():
            self._give(waiting[places[index]], page, places[index])

    def _give(
        self,
        subscriptions: Sequence[Waiting[PlaceT, SharedT]],
        page: PageT | None,
        place: PlaceT,
    ) -> None:
        shared = None if page is None else self._shared(page, place)
        for subscription in subscriptions:
            if subscription not in self._waiting or subscription.place != place:
                continue  # it ended, or moved on, while the page was read
            del self._waiting[subscription]
            if shared is None:
                subscription.leave()
            else:
                subscription.take(shared)

    async def _pages(self, places: Sequence[PlaceT], first: int = 0) -> dict[int, PageT | None]:
        """Return the pages by index, from `first` on; none for a place that cannot be read."""
        try:
            pages = await self._read(places)
        except StatementRefused:
            if len(places) == 1:
                return {first: None}
            middle = len(places) // 2
            found = await self._pages(places[:middle], first)
            return found | await self._pages(places[middle:], first + middle)
        return {first + index: page for index, page in pages.items()}
