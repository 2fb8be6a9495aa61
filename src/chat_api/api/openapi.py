"""Finishing touches to the OpenAPI description that FastAPI derives from the routes."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from chat_api.api.schemas import Message, Problem


def describe(app: FastAPI) -> None:
    """Replace FastAPI's own error schemas by ours, and add the schemas that routes only name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document["components"]["schemas"]
        _, ours = models_json_schema(
            [(Message, "serialization"), (Problem, "serialization")],
            ref_template="#/components/schemas/{model}",
        )
        schemas.update(ours["$defs"])
        for path in document["paths"].values():
            for operation in path.values():
                response = operation["responses"].get("422", {})
                if "application/json" in response.get("content", {}):
                    del operation["responses"]["422"]
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
