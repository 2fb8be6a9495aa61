"""The built chat page: its files, and the headers that they are sent with.

`make page` builds `web/` into the folder `page` beside this module, and the wheel carries it. The
same files are served by `samosachaat serve` (SERVE_WEB) and, from an origin of its own, in the
local stack.
"""

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

BUILT = Path(__file__).with_name("page")
NOT_BUILT = (
    "The chat page has not been built. `make page` builds it; that needs Node.js 20 or newer."
)

Endpoint = Callable[[Request], Awaitable[Response]]

_ASSETS = "assets/"
# Their names change with their contents.
_FOREVER = "public, max-age=31536000, immutable"
_ASK_FIRST = "no-cache"
# RFC 9110, section 12.4.2.
_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_TEXT = ("text/", "application/json", "application/manifest+json", "image/svg+xml")
# The machine's own table may lack these.
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


def is_built(folder: Path = BUILT) -> bool:
    """Return whether there is a page to serve."""
    return (folder / "index.html").is_file()


class _File:
    """One file, ready to be sent, also compressed if that makes it smaller."""

    def __init__(self, body: bytes, media_type: str, headers: dict[str, str]) -> None:
        self._plain = (body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
        self._packed: tuple[bytes, str] | None = None
        if media_type.startswith(_TEXT):
            packed = gzip.compress(body, mtime=0)
            media_type += "; charset=utf-8"
            if len(packed) < len(body):
                # Another representation, so another tag (RFC 9110, section 8.8.3.3).
                self._packed = (packed, self._plain[1][:-1] + '-gzip"')
        self._headers = {
            "content-type": media_type,
            "vary": "Accept-Encoding",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            **headers,
        }

    def respond(self, request: Request, *, status: int = 200) -> Response:
        """Return the file with this status; 304 if the browser has it and the status is 200."""
        headers = dict(self._headers)
        body, tag = self._plain
        if self._packed is not None and _takes_gzip(
            ",".join(request.headers.getlist("accept-encoding"))
        ):
            body, tag = self._packed
            headers["content-encoding"] = "gzip"
        headers["etag"] = tag
        known = request.headers.get("if-none-match", "").split(",")
        if status == 200 and tag in {name.strip().removeprefix("W/") for name in known}:
            return Response(status_code=304, headers=headers)
        return Response(body, status_code=status, headers=headers)


class _PagePath(Convertor[str]):
    """Any path except those of the API and of the page's hashed files, which programs request.

    Routes without the page answer these with 404 whatever the method is.
    """

    regex = "(?!api(?:/|$)|v1(?:/|$)|assets(?:/|$))(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("page_path", _PagePath())


class Frontend:
    """The page in `folder`, read once: the path of a request is looked up, never opened.

    `api` is the address of the chat API as the browser sees it, "" for the page's own origin;
    `sign_in` is the address of the sign-in, None for none. The page gets both from `/config.json`;
    they are the only foreign addresses to which it may connect. `missing` makes the app's error for
    a file that does not exist.
    """

    def __init__(
        self,
        folder: Path = BUILT,
        *,
        api: str = "",
        sign_in: str | None = None,
        missing: Callable[[], Exception],
    ) -> None:
        self._missing = missing
        config = orjson.dumps({"api": api, "signIn": sign_in})
        page = {
            "cache-control": _ASK_FIRST,
            "content-security-policy": _policy(
                [origin for address in (api, sign_in) if address and (origin := _origin(address))]
            ),
            "cross-origin-opener-policy": "same-origin",
        }
        self._index = _File((folder / "index.html").read_bytes(), "text/html", page)
        self._config = _File(config, "application/json", {"cache-control": _ASK_FIRST})
        self._assets: dict[str, _File] = {}
        self._others: dict[str, _File] = {}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_file() or name in {"index.html", "config.json"}:
                continue
            media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0]
            hashed = name.startswith(_ASSETS)
            (self._assets if hashed else self._others)[name] = _File(
                path.read_bytes(),
                media_type or "application/octet-stream",
                {"cache-control": _FOREVER if hashed else _ASK_FIRST},
            )

    def endpoints(self) -> dict[str, Endpoint]:
        """Return the endpoints for GET and HEAD, by path (in the form of Starlette's routes).

        The last one matches all other paths, so it must come after all other routes.
        """

        async def asset(request: Request) -> Response:
            file = self._assets.get(_ASSETS + request.path_params["name"])
            if file is None:
                raise self._missing()
            return file.respond(request)

        async def missing(request: Request) -> Response:
            """Return the page for a browser, which shows a message; for a program, the error."""
            if not _wants_html(request.headers.get("accept", "")):
                raise self._missing()
            return self._index.respond(request, status=404)

        return {
            "/": _sender(self._index),
            "/c/{conversation_id}": _sender(self._index),
            "/config.json": _sender(self._config),
            "/assets/{name:path}": asset,
            **{f"/{name}": _sender(file) for name, file in self._others.items()},
            "/{path:page_path}": missing,
        }


def _sender(file: _File) -> Endpoint:
    async def send(request: Request) -> Response:
        return file.respond(request)

    return send


def _policy(origins: list[str]) -> str:
    """Return the policy: only the page's own code and its own services (CSP Level 3)."""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            "manifest-src 'self'",
            " ".join(["connect-src 'self'", *dict.fromkeys(origins)]),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # No text can become HTML or code, not even through a defect of the page.
            "require-trusted-types-for 'script'",
            # The policy of web/src/offline.ts, which gives the service worker's address.
            "trusted-types worker",
        ]
    )


def _origin(address: str) -> str:
    """Return scheme, host and port; "" for an address on the page's own origin."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def _takes_gzip(accepted: str) -> bool:
    """Return whether an Accept-Encoding header prefers gzip to identity (RFC 9110, 12.5.3)."""
    weights = _weights(accepted.lower().replace("x-gzip", "gzip"))
    gzip_weight = weights.get("gzip", weights.get("*", 0.0))
    return gzip_weight > 0 and gzip_weight >= weights.get("identity", 0.0)


def _wants_html(accepted: str) -> bool:
    """Return whether an Accept header names HTML, as that of a browser's navigation does."""
    return _weights(accepted).get("text/html", 0.0) > 0


def _weights(header: str) -> dict[str, float]:
    """Return the weight of each value of an Accept header; 0 if it is malformed."""
    weights: dict[str, float] = {}
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                value = value.strip()
                weight = float(value) if _WEIGHT.fullmatch(value) else 0.0
        weights[name] = max(weight, weights.get(name, 0.0))
    return weights
