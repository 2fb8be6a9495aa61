"""The local auth service: `python -m chat_api.local.auth --port 8001`.

`POST /auth/validate` with `X-Internal-API-Key` and `{"token": "…"}`:
200 `{"valid": true, "user": {"id", "email", "name", "is_admin"}, "claims": {…}}`,
401 `{"valid": false, "reason"}`, 403 if the key is wrong, 400 if the body is. `GET /health`.
"""

import argparse
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from chat_api.local import web
from chat_api.local.errors import LocalError
from chat_api.local.settings import load_local_settings
from chat_api.local.state import State
from chat_api.local.tokens import InvalidToken, read_token


def create_auth_app(*, internal_key: str, signing_key: str) -> Starlette:
    """The service, for one internal key and the key that signs its tokens."""

    async def validate(request: Request) -> JSONResponse:
        web.require_key(request, internal_key)
        token = (await web.json_object(request)).get("token")
        if not isinstance(token, str):
            raise web.Refused(400, "token must be a text")
        try:
            claims = read_token(signing_key, token)
        except InvalidToken as error:
            return JSONResponse({"valid": False, "reason": str(error)}, 401)
        user = {
            "id": claims["sub"],
            "email": claims.get("email", ""),
            "name": claims.get("name", ""),
            "is_admin": claims.get("is_admin") is True,
        }
        return JSONResponse({"valid": True, "user": user, "claims": dict(claims)})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "service": "auth"})

    return Starlette(
        routes=[
            Route("/auth/validate", validate, methods=["POST"]),
            Route("/health", health),
        ],
        exception_handlers={web.Refused: web.refuse},
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chat_api.local.auth")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    try:
        app = create_auth_app(
            internal_key=web.internal_key(),
            signing_key=State(load_local_settings().data_dir).secret("auth"),
        )
        listener = web.listen(options.port)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with listener:
        web.make_server(app).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
