"""The chat page on a port of its own: `python -m chat_api.local.page --port 3000`.

Its origin differs from the API's, as with a CDN, so that CORS is used. LOCAL_API_PORT
and LOCAL_AUTH_PORT give the addresses of the API and the auth service.
"""

import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Route

from chat_api import frontend
from chat_api.local import web
from chat_api.local.errors import LocalError
from chat_api.local.settings import LocalSettings, load_local_settings


def create_page_app(settings: LocalSettings, folder: Path = frontend.BUILT) -> Starlette:
    """Return the page in `folder`. Raise LocalError if nothing has been built there."""
    if not frontend.is_built(folder):
        raise LocalError(frontend.NOT_BUILT)
    page = frontend.Frontend(
        folder,
        api=f"http://localhost:{settings.local_api_port}",
        sign_in=f"http://localhost:{settings.local_auth_port}/auth/sign-in",
        missing=lambda: web.Refused(404, "there is no such file"),
    )
    return Starlette(
        routes=[Route(path, send) for path, send in page.endpoints().items()],
        exception_handlers={web.Refused: web.refuse},
    )


def main() -> int:
    return web.main("page", lambda: create_page_app(load_local_settings()))


if __name__ == "__main__":
    sys.exit(main())
