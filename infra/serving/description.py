"""What the OpenAPI documents of services have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.serving.bodies import JSON

BINARY = {"schema": {"type": "string", "format": "binary"}}
STRING = {"type": "string"}


def document(info: Mapping[str, str], paths: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """With the routes that every service has; ``schemas`` has one for ``Health``."""
    words = dict.fromkeys(("error", "value", "fix"), STRING)
    error = {"type": "object", "properties": words, "required": [*words]}
    return {
        "openapi": "3.1.0",
        "info": dict(info),
        "security": [{"token": []}],
        "paths": {
            **paths,
            "/healthz": {"get": plain("Whether it is ready", JSON, {"$ref": "#/components/schemas/Health"})},
            "/metrics": {"get": plain("For Prometheus", "text/plain", STRING)},
            "/openapi.json": {"get": plain("This document", JSON, {"type": "object"})},
        },
        "components": {
            "schemas": {**schemas, "Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def plain(summary: str, kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """What anybody may ask."""
    answer = {"description": summary, "content": {kind: {"schema": schema}}}
    return {"summary": summary, "security": [], "responses": {"200": answer}}


def errors(told: Mapping[int, str]) -> dict[str, Any]:
    """By status."""
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": words, "content": content} for status, words in told.items()}
