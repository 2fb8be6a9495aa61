"""An open event stream: its place among the user's, and whether its token is still valid."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Annotated, Protocol

from fastapi import Depends, Request

from chat_api.api.services import CurrentUser, Services, ServicesOf
from chat_api.api.streaming.accounting import OpenStreams
from chat_api.auth import Authenticator, User, Validation
from chat_api.errors import AuthUnavailable, NotAuthenticated
from chat_api.telemetry import log

# How long to wait before the auth service is asked once more, at least; at most twice as long.
_ASK_AGAIN_SECONDS = 5.0


class Reading(Protocol):
    """What an open stream sends: a subscription to a generation or to the change feed."""

    async def run(self) -> None:
        """Write to the sink until the end."""

    def leave(self) -> None:
        """End before the next event."""

    def close(self) -> None:
        """Release everything; must be called after every end of the subscription."""


class OpenStream:
    """One of a user's open streams; it ends when the stream's token is no longer valid.

    A validation is trusted for as long as in other requests. Then the auth service is asked again,
    and the stream of a refused token closes without `done`; its client reconnects and gets 401.
    While the auth service is unavailable, the stream continues until the token expires. There is
    one timer per stream and no work per event. The token is kept as long as this object, which
    ends with the stream.
    """

    def __init__(
        self,
        open_streams: OpenStreams,
        authenticator: Authenticator,
        authorization: str | None,
        user: User,
    ) -> None:
        """Count the stream. Raise TooManyStreams."""
        open_streams.enter(user.id)
        self.refused = False
        """Whether the subscription ended because of the token."""
        self._open_streams = open_streams
        self._is_open = True
        self._authenticator = authenticator
        self._authorization = authorization
        self._user = user
        self._subscription: Reading | None = None
        self._expires = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, request: Request, services: Services, user: User) -> "OpenStream":
        """Return the counted stream of a request. Raise TooManyStreams."""
        return cls(
            services.open_streams,
            services.authenticator,
            request.headers.get("authorization"),
            user,
        )

    def follow(self, subscription: Reading) -> None:
        """Count until a subscription ends, and end it when the token is refused."""
        self._subscription = subscription
        self._look()

    @property
    def follows(self) -> bool:
        """Return whether a subscription keeps the count."""
        return self._subscription is not None

    def close(self) -> None:
        """End the count."""
        if not self._is_open:
            return
        self._is_open = False
        self._open_streams.leave(self._user.id)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> None:
        try:
            validation = self._authenticator.remembered(self._authorization)
        except NotAuthenticated:
            self._refuse()
            return
        if validation is None:
            self._task = asyncio.create_task(self._validate(), name="validate-stream")
        else:
            self._accept(validation)

    async def _validate(self) -> None:
        while True:
            try:
                self._accept(await self._authenticator.validate(self._authorization))
                return
            except NotAuthenticated:
                self._refuse()
                return
            except AuthUnavailable:
                left = self._authenticator.expires_in(self._expires)
                if left <= 0:
                    self._refuse()
                    return
                pause = _ASK_AGAIN_SECONDS * (1 + random.random())  # noqa: S311  # not a secret
                await asyncio.sleep(min(pause, left))

    def _accept(self, validation: Validation) -> None:
        if validation.user.id != self._user.id:
            self._refuse()
            return
        self._expires = validation.expires
        # A little late, because an early call would get the cached validation.
        left = self._authenticator.trusted_for(validation) + 0.05
        self._timer = asyncio.get_running_loop().call_later(left, self._look)

    def _refuse(self) -> None:
        self.refused = True
        if self._subscription is not None:
            log.info("stream_token_refused")
            self._subscription.leave()


async def open_stream(
    request: Request, services: ServicesOf, user: CurrentUser
) -> AsyncIterator[OpenStream]:
    """Take a place among the user's open streams. Raise TooManyStreams.

    Where a subscription needs the place, it is given back with the end of that, which is later than
    the end of the request; otherwise with the request.
    """
    stream = OpenStream.of(request, services, user)
    try:
        yield stream
    finally:
        if not stream.follows:
            stream.close()


UserStream = Annotated[OpenStream, Depends(open_stream)]
