"""Corrections of the OpenAPI description that FastAPI derives from the routes."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from chat_api.api.schemas.events import CHANGES, EVENTS
from chat_api.api.schemas.responses import Message, Problem

# Schemas that routes refer to by name only.
_MODELS: tuple[type[BaseModel], ...] = (Message, Problem, *EVENTS, *CHANGES)


def describe(app: FastAPI) -> None:
    """Replace FastAPI's own error schemas by ours, and add the schemas that routes only name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document["components"]["schemas"]
        _, ours = models_json_schema(
            [(model, "serialization") for model in _MODELS],
            ref_template="#/components/schemas/{model}",
        )
        schemas.update(ours["$defs"])
        for path in document["paths"].values():
            for operation in path.values():
                response = operation["responses"].get("422", {})
                if "application/json" in response.get("content", {}):
                    del operation["responses"]["422"]
                for parameter in operation.get("parameters", []):
                    _may_be_left_out(parameter["schema"])
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _may_be_left_out(schema: dict[str, Any]) -> None:
    """Remove null from a parameter's types: a header or a query has none, though Python has."""
    if "anyOf" in schema:
        (kind,) = (kind for kind in schema.pop("anyOf") if kind != {"type": "null"})
        schema.update(kind)
