"""What schemathesis has to know, and the OpenAPI description cannot say."""

import base64
import json
import os
import zoneinfo
from typing import Any

import schemathesis
from hypothesis import strategies as st

# Values of the formats that the description names but cannot spell out.
CURSORS = st.builds(
    lambda microseconds, id_: base64.urlsafe_b64encode(f"{microseconds}_{id_}".encode()).decode(),
    st.integers(min_value=0, max_value=10**17),
    st.uuids(),
)
SEARCH_CURSORS = st.builds(
    lambda microseconds, rank, id_: base64.urlsafe_b64encode(
        f"{microseconds}_{rank}_{id_}".encode()
    ).decode(),
    st.integers(min_value=0, max_value=10**17),
    st.integers(min_value=0, max_value=2**30),
    st.uuids(),
)
AUDIT_CURSORS = st.builds(
    lambda number: base64.urlsafe_b64encode(str(number).encode()).decode(),
    st.integers(min_value=0, max_value=10**17),
)
EVENT_IDS = st.from_regex(r"[0-9a-f]{12}\.[1-9][0-9]{0,8}\.(0|[1-9][0-9]{0,8})", fullmatch=True)
ZONES = st.sampled_from(sorted(zoneinfo.available_timezones()))

schemathesis.openapi.format("iana-time-zone", ZONES)
schemathesis.openapi.format("list-cursor", CURSORS)
schemathesis.openapi.format("search-cursor", SEARCH_CURSORS)
schemathesis.openapi.format("audit-cursor", AUDIT_CURSORS)
schemathesis.openapi.format("event-id", EVENT_IDS)

# A conversation and its answer, where the test names them: chance seldom leads to one that has any.
CONVERSATION, ANSWER = os.environ.get("FUZZ_CONVERSATION"), os.environ.get("FUZZ_ANSWER")
IN = "/api/conversations/{conversation_id}"
ON_AN_ANSWER = {
    ("POST", f"{IN}/regenerate"),
    ("POST", f"{IN}/stop"),
    ("PUT", f"{IN}/path"),
    ("GET", f"{IN}/messages/{{message_id}}/versions"),
    ("GET", "/api/chat/{chat_id}/messages"),
    ("GET", "/api/chat/{chat_id}/stream"),
    ("POST", "/api/chat/{chat_id}/stop"),
}


@schemathesis.hook
def before_add_examples(context: Any, examples: list[Any]) -> None:
    """Add a case that succeeds to each operation on an answer."""
    operation = context.operation
    if CONVERSATION is None or (operation.method.upper(), operation.path) not in ON_AN_ANSWER:
        return
    ids = {"conversation_id": CONVERSATION, "chat_id": CONVERSATION, "message_id": ANSWER}
    named = {name: id_ for name, id_ in ids.items() if f"{{{name}}}" in operation.path}
    body: dict[str, Any] = {}
    if operation.path == f"{IN}/path":
        body = {"body": {"message_id": ANSWER}, "media_type": "application/json"}
    examples.append(operation.Case(path_parameters=named, **body))


# Refusals of what is well-formed that are right, for a reason that lies in what went before.
RIGHT = {
    ("/import", "bad_request"),  # JSON that is no array and no object
    ("/messages", "idempotency_key_reused"),
    ("/regenerate", "idempotency_key_reused"),
    ("/continue", "idempotency_key_reused"),
    ("/regenerate", "nothing_to_answer"),
    ("/stop", "not_found"),  # where no answer was ever written
    # A message that the conversation does not have.
    *((path, "not_found") for path in ("/path", "/messages", "/regenerate", "/versions")),
    *((path, "not_found") for path in ("/{message_id}", "/conversations")),
    ("/usage", "invalid"),  # the first day is later than the last
    ("/chat", "invalid"),  # messages are described by the AI SDK, not here
}


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether it is one."""
    if type(failure).__name__ not in {"RejectedPositiveData", "EnsureResourceAvailability"}:
        return True
    problem = json.loads(response.content)
    refused = {error["field"] for error in problem.get("errors", ())}
    if refused == {"response_format"}:
        return False  # an engine's language, of which only what can be stored is passed on
    if refused == {"expires_at"}:
        return False  # a time that is past
    code = problem["type"].rpartition(":")[2]
    return (f"/{case.operation.path.rpartition('/')[2]}", code) not in RIGHT
