"""The response for an error, in the shape of the dialect that the path belongs to."""

from starlette.responses import Response

from chat_api.dialects.openai import errors as openai
from chat_api.errors import ApiError, problem


def refusal(path: str, error: ApiError, trace_id: str) -> Response:
    """Return a problem document or, under /v1, an error of OpenAI's."""
    if path == openai.PATH or path.startswith(f"{openai.PATH}/"):
        response = openai.refusal(error)
        response.headers["x-request-id"] = trace_id  # the name that OpenAI's clients read
        return response
    return problem(error, trace_id)
