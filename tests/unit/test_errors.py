"""The tree of errors, and the problem documents they become."""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from chat_api import errors
from chat_api.errors import (
    ApiError,
    ConversationBusy,
    EngineFailed,
    IdempotencyKeyReused,
    InternalError,
    Invalid,
    ModelRefused,
    NotAuthenticated,
    TooManyRequests,
    Unavailable,
    inference_failure,
    problem,
)


def tree(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


KINDS = list(tree(ApiError))
# How each is made; the others need nothing.
ARGUMENTS: dict[type[ApiError], tuple[object, ...]] = {
    ConversationBusy: ("some-id",),
    Invalid: ([("title", "is blank")],),
    ModelRefused: (409,),
    **dict.fromkeys((TooManyRequests, *TooManyRequests.__subclasses__()), (5, 20)),
}
_DRAWN = re.compile(r"^([ │]*)[├└]── (\w+)(?: +(\d{3}|4xx))?(?=\s|$)")


def drawn() -> Iterator[tuple[str, str, str | None]]:
    """Each error of the docstring's tree with its parent and, where one is drawn, its status."""
    path = ["ApiError"]
    for line in (errors.__doc__ or "").splitlines():
        if found := _DRAWN.match(line):
            depth = len(found[1]) // 4 - 1  # the whole tree is indented once
            path = [*path[: depth + 1], found[2]]
            yield found[2], path[-2], found[3]


def made(kind: type[ApiError]) -> ApiError:
    return kind(*ARGUMENTS.get(kind, ()))  # type: ignore[arg-type]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    parents = {name: parent for name, parent, _ in drawn()}
    assert parents == {
        kind.__name__: kind.__mro__[1].__name__ for kind in KINDS if kind is not ApiError
    }


def test_the_statuses_in_the_docstring_are_the_statuses() -> None:
    for name, parent, status in drawn():
        kind = getattr(errors, name)
        if status == "4xx":
            assert made(kind).status == 409
        else:
            assert kind.status == (int(status) if status else getattr(errors, parent).status), name


def test_every_error_is_drawn_once() -> None:
    names = [name for name, _, _ in drawn()]
    assert len(names) == len(set(names)) == len(KINDS) - 1


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS if kind is not InternalError]  # it is ApiError's own
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert InternalError.code == ApiError.code == "internal_error"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_becomes_a_problem_document(kind: type[ApiError]) -> None:
    error = made(kind)
    response = problem(error, "trace-1")
    document = json.loads(bytes(response.body))
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == error.status
    assert document == {
        "type": f"urn:samosachaat:problem:{kind.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "trace_id": "trace-1",
        **error.fields,
    }
    assert 400 <= error.status < 600
    assert error.detail[0].isupper()
    assert error.detail.endswith(".")
    assert ("errors" in document) == (error.status == 422)
    assert ("WWW-Authenticate" in response.headers) == (error.status == 401)
    if isinstance(error, Unavailable):
        assert int(response.headers["Retry-After"]) >= 1
    if isinstance(error, TooManyRequests):
        assert response.headers["Retry-After"] == "20"
        assert response.headers["RateLimit"].startswith(f'"{error.policy}";r=0')
        assert response.headers["RateLimit-Policy"].startswith(f'"{error.policy}";q=5;')


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if k.status == 503], ids=lambda kind: kind.__name__
)
def test_only_what_the_caller_waits_for_says_when_to_come_back(kind: type[ApiError]) -> None:
    assert ("Retry-After" in made(kind).headers) == issubclass(kind, Unavailable)


def test_a_challenge_names_an_error_only_where_a_token_was_sent() -> None:
    assert NotAuthenticated().headers["WWW-Authenticate"] == "Bearer"
    assert (
        NotAuthenticated(invalid_token=True).headers["WWW-Authenticate"]
        == 'Bearer error="invalid_token"'
    )


def test_an_invalid_request_names_its_fields() -> None:
    fields = Invalid([("a", "is wrong"), ("b.c", "too")]).fields
    assert fields == {
        "errors": [{"field": "a", "reason": "is wrong"}, {"field": "b.c", "reason": "too"}]
    }
    assert IdempotencyKeyReused().fields["errors"][0]["field"] == "Idempotency-Key"
    assert ConversationBusy("some-id").fields == {"message_id": "some-id"}


def test_one_error_s_fields_are_not_another_s() -> None:
    one, other = ApiError(fields={"a": 1}), ApiError()
    one.headers["x"] = "y"
    assert other.fields == {}
    assert other.headers == {}


@pytest.mark.parametrize("kind", list(tree(EngineFailed)), ids=lambda kind: kind.__name__)
def test_a_stored_failure_is_found_by_its_code(kind: type[ApiError]) -> None:
    assert inference_failure(kind.code) is kind


@pytest.mark.parametrize("code", [None, "", "internal_error", "of_a_newer_replica", "not_found"])
def test_an_unknown_failure_is_the_engine_s(code: str | None) -> None:
    assert inference_failure(code) is EngineFailed
