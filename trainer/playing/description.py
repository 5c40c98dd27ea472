"""The page's service as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.serving import description
from infra.serving.bodies import JSON
from infra.serving.description import BINARY, errors
from trainer.playing.wishes import FORMS

ERRORS = {
    401: "No token, or a wrong one.",
    404: "Unknown, taken back, or not for this caller: the three are not told apart.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "Not JSON, or an image that is no JPEG, PNG or WebP.",
    421: "Without tokens, only this machine's own addresses are answered.",
    422: "A field that is wrong; `error` names it, `value` is what it had, `fix` what it may have.",
    429: "More requests than are allowed; Retry-After says when to ask again.",
    500: "A fault of the service.",
    503: "The line is full, or the service is about to end.",
}
OBJECT: Mapping[str, Any] = {"type": "object"}
IMAGE = "image/*"


def document(about: Mapping[str, Any]) -> dict[str, Any]:
    told = f"A model to play with, beside version {about['version']} of {about['corpus']}."
    info = {"title": "pardalis playground", "version": str(about["version"]), "description": told}
    paths = {
        "/jobs": {"post": asked("Ask for pictures or words: a job", "Wish")},
        "/jobs/{id}": {"get": answered("How far a job is, and its answer", JSON, OBJECT)},
        "/stop/{id}": {"post": answered("Give a job up", JSON, OBJECT)},
        "/pictures": {"post": brought("Bring a picture: its name here", {IMAGE: BINARY})},
        "/masks": {"post": brought("The same, of a mask", {IMAGE: BINARY})},
        "/pictures/{name}": {"get": answered("A picture that was brought or made", "image/png", BINARY)},
        "/take": {"post": brought("Take a picture of the corpus: its name here", {JSON: {"schema": OBJECT}})},
        "/search": {"post": brought("Assets nearest to words", {JSON: {"schema": OBJECT}})},
        "/neighbors": {"post": brought("What the model is shown beside words", {JSON: {"schema": OBJECT}})},
        "/alike": {"post": brought("The same, beside a picture", {JSON: {"schema": OBJECT}})},
        "/thumbnails/{uid}": {"get": answered("An asset's picture, small", "image/jpeg", BINARY)},
        "/facts": {"get": answered("What the page plays with", JSON, OBJECT)},
    }
    wish = FORMS.json_schema(ref_template="#/components/schemas/{model}")
    defined = wish.pop("$defs", {})
    return description.document(info, paths, {**defined, "Wish": wish, "Health": dict(OBJECT)})


def answered(summary: str, kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    content = {kind: schema if "schema" in schema else {"schema": dict(schema)}}
    return {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}, **errors(ERRORS)},
    }


def brought(summary: str, content: Mapping[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": dict(content)}
    return {**answered(summary, JSON, OBJECT), "requestBody": body}


def asked(summary: str, schema: str) -> dict[str, Any]:
    return brought(summary, {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}})
