"""The local auth service: `python -m chat_api.local.auth --port 8001`.

`POST /auth/validate` with `X-Internal-API-Key` and `{"token": "…"}`:
200 `{"valid": true, "user": {"id", "email", "name", "is_admin"}, "claims": {…}}`,
401 `{"valid": false, "reason"}`, 403 if the key is wrong, 400 if the body is. `GET /health`.

`POST /auth/sign-in` with `{"name": "…", "admin": false}`, from the chat page (FRONTEND_URL):
200 `{"token", "user": {…}, "expires_at"}`, good for a day; 400 if that is no name, 403 for other
pages, 415 for anything but JSON. There is no password: every user of this machine may take any
name.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from chat_api.addresses import origins_of
from chat_api.local import web
from chat_api.local.errors import LocalError
from chat_api.local.settings import load_local_settings
from chat_api.local.state import State
from chat_api.local.tokens import InvalidToken, read_token, sign_token

_SIGNED_IN_SECONDS = 24 * 3600


def create_auth_app(
    *, internal_key: str, signing_key: str, origins: Sequence[str] = ()
) -> Starlette:
    """Return the service, for one internal key and the key that signs its tokens.

    Pages of these `origins` may sign people in.
    """

    async def validate(request: Request) -> JSONResponse:
        web.require_key(request, internal_key)
        token = (await web.json_object(request)).get("token")
        if not isinstance(token, str):
            raise web.Refused(400, "token must be a text")
        try:
            claims = read_token(signing_key, token)
        except InvalidToken as error:
            return JSONResponse({"valid": False, "reason": str(error)}, 401)
        return JSONResponse({"valid": True, "user": _user(claims), "claims": dict(claims)})

    async def sign_in(request: Request) -> JSONResponse:
        web.require_origin(request, origins)
        web.require_json(request)
        body = await web.json_object(request)
        name, admin = body.get("name"), body.get("admin", False)
        if not isinstance(name, str) or not isinstance(admin, bool):
            raise web.Refused(400, "name must be a text, admin true or false")
        try:
            token = sign_token(signing_key, name, admin, _SIGNED_IN_SECONDS)
        except LocalError as error:
            raise web.Refused(400, str(error)) from None
        claims = read_token(signing_key, token)
        expires_at = datetime.fromtimestamp(claims["exp"], UTC).isoformat()
        answer = {"token": token, "user": _user(claims), "expires_at": expires_at}
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "service": "auth"})

    return Starlette(
        routes=[
            Route("/auth/validate", validate, methods=["POST"]),
            Route("/auth/sign-in", sign_in, methods=["POST"]),
            Route("/health", health),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["POST"],
                allow_headers=["Content-Type"],
                max_age=600,
            )
        ],
        exception_handlers={web.Refused: web.refuse},
    )


def _user(claims: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": claims["sub"],
        "email": claims.get("email", ""),
        "name": claims.get("name", ""),
        "is_admin": claims.get("is_admin") is True,
    }


def main() -> int:
    return web.main(
        "auth",
        lambda: create_auth_app(
            internal_key=web.internal_key(),
            signing_key=State(load_local_settings().data_dir).secret("auth"),
            origins=origins_of(os.environ.get("FRONTEND_URL", "")),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
