"""The chat page, served from an origin of its own as in the local stack."""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.support.service import Service

from chat_api.frontend import BUILT
from chat_api.local import web
from chat_api.local.page import create_page_app
from chat_api.local.settings import LocalSettings


@dataclass(frozen=True)
class Place:
    """Where the page is; `neighbours` are the ports that it may talk to beside its own."""

    origin: str
    neighbours: tuple[int, ...] = ()


class Site:
    """A static server for the page, in a thread of its own.

    Its port is known from the start, so that a service can be told of its origin; which service and
    which sign-in the page talks to is told when it starts.
    """

    def __init__(self) -> None:
        self._listener = web.listen(0)
        self.port: int = self._listener.getsockname()[1]
        # As a person types it: another origin than the API's, so that CORS is put to use.
        self.origin = f"http://localhost:{self.port}"
        self._apps: list[ASGIApp] = []
        self._settings = LocalSettings()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, api_port: int, auth_port: int, folders: Sequence[Path] = (BUILT,)) -> Place:
        """Serve the page for this API and this sign-in.

        Several folders are several replicas behind a proxy that takes them by turns.
        """
        self._settings = LocalSettings(local_api_port=api_port, local_auth_port=auth_port)
        self.deploy(*folders)
        app = _by_turns(self._apps)
        # Without uvicorn's logging, which would be that of every test after these.
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._serve, args=(self._server,), name="site")
        self._thread.start()
        return Place(self.origin, (api_port, auth_port))

    def deploy(self, *folders: Path) -> None:
        """Serve these folders from now on."""
        self._apps[:] = [create_page_app(self._settings, folder) for folder in folders]

    def _serve(self, server: uvicorn.Server) -> None:
        server.run(sockets=[self._listener])

    def close(self) -> None:
        """Idempotent, whatever state it is in."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)
        self._listener.close()


def _by_turns(apps: Sequence[ASGIApp]) -> ASGIApp:
    """Each request goes to the next of these."""
    turns = itertools.count()

    async def send_on(scope: Scope, receive: Receive, send: Send) -> None:
        app = apps[next(turns) % len(apps)] if scope["type"] == "http" else apps[0]
        await app(scope, receive, send)

    return send_on


class ServePage(Protocol):
    """Starts a service of the test's own with these variables, and a site for it."""

    def __call__(self, **env: str) -> tuple[Place, Service]: ...
