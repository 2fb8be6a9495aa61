"""Errors in OpenAI's shape. Clients choose the exception by the status."""

import orjson
from starlette.responses import Response

from chat_api.errors import ApiError, BadRequest

PATH = "/v1"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_CODES = {401: "invalid_api_key", 422: "invalid_value", 429: "rate_limit_exceeded"}


def invalid(param: str, reason: str, *, code: str = "invalid_value") -> BadRequest:
    """Return the refusal of a parameter's value."""
    return BadRequest(f"'{param}' {reason}.", fields={"param": param, "code": code})


def unsupported(param: str, what: str = "") -> BadRequest:
    """Return the refusal of an unsupported parameter."""
    return BadRequest(
        f"'{param}'{what} is not supported.",
        fields={"param": param, "code": "unsupported_parameter"},
    )


def refusal(error: ApiError) -> Response:
    """Return the response for an error. Invalid (422) becomes 400 here."""
    status = 400 if error.status == 422 else error.status
    problems = error.fields.get("errors") or [{}]
    param = error.fields.get("param", problems[0].get("field"))
    message = error.detail
    if "reason" in problems[0]:
        message = f"'{param}' {problems[0]['reason']}."
    kind = "invalid_request_error" if status < 500 else "server_error"
    document = {
        "error": {
            "message": message,
            "type": _TYPES.get(status, kind),
            "code": error.fields.get("code") or _CODES.get(error.status, error.code),
            "param": param,
        }
    }
    return Response(
        orjson.dumps(document),
        status_code=status,
        media_type="application/json",
        headers=error.headers,
    )
