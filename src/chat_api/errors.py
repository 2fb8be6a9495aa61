"""All expected errors as one tree, and the function that turns them into responses.

    ApiError
    ├── BadRequest                 400  cannot be read
    ├── NothingToAnswer            400  regenerate without a question
    ├── NotAuthenticated           401  no valid credentials
    ├── Forbidden                  403
    ├── NotFound                   404  missing, malformed or another user's: one response
    ├── MethodNotAllowed           405
    ├── RequestTimeout             408  did not arrive in time
    ├── ConversationBusy           409  an answer is running and has a subscriber
    ├── NothingToContinue          409  the last message is no answer that was cut off
    ├── EngineCannotContinue       409  it cannot be continued, but regenerated
    ├── AnswerGone                 409  an idempotent repeat of what has been deleted or replaced
    ├── PayloadTooLarge            413
    ├── UnsupportedMediaType       415
    ├── Invalid                    422  can be read, breaks a rule; names each field
    ├── IdempotencyKeyReused       422
    ├── TooManyRequests            429  over a limit; says which, and when to come back
    │   ├── TooManyMessages
    │   ├── TooManyGenerations
    │   ├── TooManyAnswersToday
    │   ├── TooManyTokensToday
    │   ├── TooManyStreams
    │   ├── TooManySearches
    │   └── TooManyFailures             of authentication, from one address
    ├── HeadersTooLarge            431
    ├── ModelRefused               4xx  the inference service's own refusal of a model
    ├── InternalError              500  a defect of ours
    ├── UnknownTransferCoding      501
    ├── Unavailable                503  try again later
    │   ├── DatabaseUnavailable
    │   │   ├── DatabaseBusy            another transaction changes the same rows
    │   │   ├── DatabaseRefused         no later try can succeed, either
    │   │   └── UserMoving              to another cell
    │   ├── AuthUnavailable
    │   ├── NotReady
    │   ├── Draining
    │   ├── TooManyConnections          of this process
    │   ├── SearchTimeout
    │   └── Superseded                  an answer has moved to another replica
    └── EngineFailed            502  the engine behind us
        ├── EngineRefused       502
        ├── ModelNotFound       502  the engine does not have the model
        ├── ContextTooLong      502  the prompt does not fit the model
        ├── EngineProtocol      502
        ├── EngineIncomplete    502
        ├── EngineUnavailable   503
        ├── EngineOverloaded    503  too many requests, or no room
        └── EngineTimeout       504

The class's `code` is the last part of the problem's `type` and the name in a stream's `error`
event. `detail` is for a person: it never holds a token, a message's text or what a neighbour sent.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from starlette.responses import Response

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:samosachaat:problem:"


class ApiError(Exception):
    """Base of every expected failure.

    `fields` are added to the problem document, `headers` to the response.
    """

    status: int = 500
    code: ClassVar[str] = "internal_error"
    detail: str = "An internal error occurred."

    def __init__(
        self,
        detail: str | None = None,
        *,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or type(self).detail
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})
        super().__init__(self.detail)


class BadRequest(ApiError):
    status = 400
    code = "bad_request"
    detail = "The request could not be read."


class NothingToAnswer(ApiError):
    status = 400
    code = "nothing_to_answer"
    detail = "The conversation has no user message to answer."


class NotAuthenticated(ApiError):
    """RFC 6750, section 3: a challenge names an error only where credentials were sent."""

    status = 401
    code = "not_authenticated"
    detail = "Send an access token as 'Authorization: Bearer <token>'."

    def __init__(self, detail: str | None = None, *, invalid_token: bool = False) -> None:
        challenge = 'Bearer error="invalid_token"' if invalid_token else "Bearer"
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class Forbidden(ApiError):
    status = 403
    code = "forbidden"
    detail = "Only an administrator may do this."


class NotFound(ApiError):
    status = 404
    code = "not_found"
    detail = "No resource has this id or path."


class MethodNotAllowed(ApiError):
    status = 405
    code = "method_not_allowed"
    detail = "This path does not support that method."


class RequestTimeout(ApiError):
    status = 408
    code = "request_timeout"
    detail = "The request did not arrive in time."


class ConversationBusy(ApiError):
    status = 409
    code = "conversation_busy"
    detail = "An answer is being written in this conversation. Stop it, or wait until it ends."

    def __init__(self, message_id: str) -> None:
        super().__init__(fields={"message_id": message_id})


class NothingToContinue(ApiError):
    status = 409
    code = "nothing_to_continue"
    detail = "The last message is not an answer that was stopped, interrupted or cut by its length."


class EngineCannotContinue(ApiError):
    status = 409
    code = "engine_cannot_continue"
    detail = "The model cannot continue this answer. Regenerate it instead."


class AnswerGone(ApiError):
    status = 409
    code = "answer_gone"
    detail = "The answer to the first request with this Idempotency-Key was deleted or replaced."


class PayloadTooLarge(ApiError):
    status = 413
    code = "payload_too_large"
    detail = "The request's body is too large."


class UnsupportedMediaType(ApiError):
    status = 415
    code = "unsupported_media_type"
    detail = "Send JSON, uncompressed, as 'Content-Type: application/json'."


class Invalid(ApiError):
    """`errors` are pairs of a field's name and the reason why its value is refused."""

    status = 422
    code = "invalid"
    detail = "Some fields are not valid."

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        listed = [{"field": field, "reason": reason} for field, reason in errors]
        super().__init__(fields={"errors": listed})


class IdempotencyKeyReused(ApiError):
    status = 422
    code = "idempotency_key_reused"
    detail = "This Idempotency-Key was used with another request."

    def __init__(self) -> None:
        reason = {"field": "Idempotency-Key", "reason": "was used with another request"}
        super().__init__(fields={"errors": [reason]})


class TooManyRequests(ApiError):
    """Over a limit of `quota`.

    The headers are those of draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4.
    """

    status = 429
    code = "too_many_requests"
    detail = "Too many requests."
    policy: ClassVar[str] = "requests"
    # None: the quota is how many there may be at once.
    window_seconds: ClassVar[int | None] = 60

    def __init__(self, quota: int, retry_after_seconds: int) -> None:
        if self.window_seconds is None:
            policy, left = f'q={quota};qu="concurrent-requests"', "r=0"
            detail = self.detail
        else:
            policy, left = f"q={quota};w={self.window_seconds}", f"r=0;t={retry_after_seconds}"
            unit = "second" if retry_after_seconds == 1 else "seconds"
            detail = f"{self.detail} Try again in {retry_after_seconds} {unit}."
        super().__init__(
            detail,
            headers={
                "Retry-After": str(retry_after_seconds),
                "RateLimit-Policy": f'"{self.policy}";{policy}',
                "RateLimit": f'"{self.policy}";{left}',
            },
        )


class TooManyMessages(TooManyRequests):
    code = "too_many_messages"
    policy = "messages"
    detail = "Too many messages."


class TooManyGenerations(TooManyRequests):
    code = "too_many_answers"
    policy = "running-answers"
    window_seconds = None
    detail = "Too many of your answers are being written. Stop one, or wait until one ends."


class TooManyAnswersToday(TooManyRequests):
    code = "too_many_answers_today"
    policy = "answers-per-day"
    window_seconds = 86_400
    detail = "The daily limit of answers is reached."


class TooManyTokensToday(TooManyRequests):
    code = "too_many_tokens_today"
    policy = "tokens-per-day"
    window_seconds = 86_400
    detail = "The daily limit of tokens is reached."


class TooManyStreams(TooManyRequests):
    code = "too_many_streams"
    policy = "streams"
    window_seconds = None
    detail = "Too many event streams are open. Close one first."


class TooManySearches(TooManyRequests):
    code = "too_many_searches"
    policy = "searches"
    window_seconds = None
    detail = "Too many of your searches are running. Wait until one ends."


class TooManyFailures(TooManyRequests):
    code = "too_many_failures"
    policy = "unauthenticated"
    detail = "Too many requests from this address had no valid token."


class HeadersTooLarge(ApiError):
    status = 431
    code = "headers_too_large"
    detail = "The request's headers are too large."


class ModelRefused(ApiError):
    """Carries the status (400, 404, 409 or 422) that the inference service answered with."""

    code = "model_refused"
    detail = "The inference service refused this model."

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class InternalError(ApiError):
    """A defect of this service; the log has the exception."""


class UnknownTransferCoding(ApiError):
    status = 501
    code = "unknown_transfer_coding"
    detail = "Send the body with a Content-Length, or as 'Transfer-Encoding: chunked'."


class Unavailable(ApiError):
    status = 503
    code = "unavailable"
    detail = "The service cannot do this right now. Try again in a moment."
    retry_after_seconds: ClassVar[int] = 2

    def __init__(
        self, detail: str | None = None, *, fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(
            detail, fields=fields, headers={"Retry-After": str(self.retry_after_seconds)}
        )


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    detail = "The database cannot be reached. Try again in a moment."


class DatabaseBusy(DatabaseUnavailable):
    code = "database_busy"
    detail = "Another request is changing the same data. Try again in a moment."
    retry_after_seconds = 1


class DatabaseRefused(DatabaseUnavailable):
    """The database, or its address, is unusable. `reason` says why, for an operator."""

    code = "database_refused"
    detail = "The database cannot be used. The log has the reason."

    def __init__(self, reason: str = "it cannot be used") -> None:
        self.reason = reason
        super().__init__()


class UserMoving(DatabaseUnavailable):
    """The user's data is being moved to another cell, or is there already."""

    code = "user_moving"
    detail = "Your conversations are being moved. Nothing can be changed for a moment; try again."


class AuthUnavailable(Unavailable):
    code = "auth_unavailable"
    detail = "The token cannot be checked right now. Try again in a moment."


class NotReady(Unavailable):
    code = "not_ready"
    detail = "The service is not ready."


class Draining(Unavailable):
    code = "draining"
    detail = "This replica is shutting down. Try again: another one will answer."
    retry_after_seconds = 1


class TooManyConnections(Unavailable):
    code = "too_many_connections"
    detail = "This replica has too many connections. Try again in a moment."


class SearchTimeout(Unavailable):
    code = "search_timeout"
    detail = "The search took too long. Try again in a moment."


class Superseded(Unavailable):
    code = "superseded"
    detail = (
        "Another replica is writing the answer. Join it with GET /api/conversations/{id}/stream."
    )
    retry_after_seconds = 1


class EngineFailed(ApiError):
    """The engine behind us failed.

    A `transient` failure is worth another try before the first token, `retry_after` seconds from
    now where the engine said so; one that `was_slow` took a whole timeout. `finish_reason` is set
    where a refusal has one (content_filter).
    """

    status = 502
    code = "inference_error"
    detail = "The inference service failed."
    transient: bool = False
    was_slow: bool = False
    retry_after: float | None = None
    finish_reason: str | None = None


class EngineRefused(EngineFailed):
    code = "inference_refused"
    detail = "The inference service refused the request."


class ModelNotFound(EngineFailed):
    code = "model_not_found"
    detail = "The inference service does not have this model."


class ContextTooLong(EngineFailed):
    code = "context_too_long"
    detail = "The conversation is too long for this model."


class EngineProtocol(EngineFailed):
    code = "inference_protocol"
    detail = "The inference service sent an invalid response."


class EngineIncomplete(EngineFailed):
    code = "inference_incomplete"
    detail = "The inference service ended its response before the answer was complete."


class EngineUnavailable(EngineFailed):
    status = 503
    code = "inference_unavailable"
    detail = "The inference service cannot be reached."


class EngineOverloaded(EngineFailed):
    status = 503
    code = "inference_overloaded"
    detail = "The inference service is overloaded. Try again in a moment."


class EngineTimeout(EngineFailed):
    status = 504
    code = "inference_timeout"
    detail = "The inference service sent nothing for too long."


def inference_failure(code: str | None) -> type[EngineFailed]:
    """Return the class of a stored failure's `code`; EngineFailed for an unknown code."""
    kinds: list[type[EngineFailed]] = [EngineFailed, *EngineFailed.__subclasses__()]
    return next((kind for kind in kinds if kind.code == code), EngineFailed)


def problem(error: ApiError, trace_id: str) -> Response:
    """Return the response for an error: a problem document (RFC 9457)."""
    document = {
        "type": TYPE_PREFIX + error.code,
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "trace_id": trace_id,
        **error.fields,
    }
    return Response(
        orjson.dumps(document),
        status_code=error.status,
        media_type=PROBLEM_JSON,
        headers=error.headers,
    )
