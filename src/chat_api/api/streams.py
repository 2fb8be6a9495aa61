"""An open event stream: its place among the user's, and whether its token still stands."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import Depends, Request

from chat_api.api.services import CurrentUser, ServicesOf
from chat_api.auth import Authenticator, User, Validation
from chat_api.errors import AuthUnavailable, NotAuthenticated
from chat_api.generation.subscription import Subscription
from chat_api.telemetry import log

# How long to wait before the auth service is asked once more, at least; at most twice as long.
_ASK_AGAIN_SECONDS = 5.0


class OpenStream:
    """Ends a reading when the token that it was opened with is no longer valid.

    What the auth service said is trusted here for no longer than anywhere else: then it is asked
    again, and the stream of a token that is refused closes without `done`; its reader comes back
    and is told why. While the auth service cannot answer, the stream goes on until the token's own
    end. Nothing of this happens per event: there is one timer a stream.

    The token is kept for that as long as the reading lasts, and no longer. `on_close` is called
    once, at its end.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        authorization: str | None,
        user: User,
        on_close: Callable[[], None],
    ) -> None:
        self.refused = False
        """Whether the token is why the reading ended."""
        self._on_close = on_close
        self._is_open = True
        self._authenticator = authenticator
        self._authorization = authorization
        self._user = user
        self._reader: Subscription | None = None
        self._expires = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def follow(self, reader: Subscription) -> None:
        """Watch over this reading from now on; its end is the stream's."""
        self._reader = reader
        reader.at_end = self.close
        self._look()

    @property
    def follows(self) -> bool:
        return self._reader is not None

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._on_close()
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
        # A little late rather than early: it would find what it has seen already.
        left = self._authenticator.trusted_for(validation) + 0.05
        self._timer = asyncio.get_running_loop().call_later(left, self._look)

    def _refuse(self) -> None:
        self.refused = True
        if self._reader is not None:
            log.info("stream_token_refused", message_id=self._reader.message_id)
            self._reader.leave()


async def open_stream(
    request: Request, services: ServicesOf, user: CurrentUser
) -> AsyncIterator[OpenStream]:
    """A place among the user's open streams. Raises TooManyStreams.

    It is given back when the reading ends that it follows, which is later than the request's own
    end; where it follows none, at that.
    """
    services.open_streams.enter(user.id)
    stream = OpenStream(
        services.authenticator,
        request.headers.get("authorization"),
        user,
        lambda: services.open_streams.leave(user.id),
    )
    try:
        yield stream
    finally:
        if not stream.follows:
            stream.close()


StreamPlace = Annotated[OpenStream, Depends(open_stream)]
