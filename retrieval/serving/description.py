"""The search as an OpenAPI document, with this corpus's numbers in it."""

from __future__ import annotations

from typing import Any

from infra.serving import description
from infra.serving.bodies import JSON
from infra.serving.description import BINARY, STRING, errors
from retrieval.serving.facts import About
from retrieval.serving.queries import (
    DEFAULT_K,
    FACETS,
    MAX_IMAGE,
    MAX_K,
    MAX_LISTED,
    MAX_TEXT,
    MAX_WEIGHT,
    PARTS,
    RIGHTS,
    Bounds,
)
from retrieval.serving.results import ARROW

ERRORS = {
    401: "No token, or a wrong one.",
    403: "Places that the token is not for.",
    404: "Unknown, taken back, or not for this caller: the three are not told apart.",
    408: "The body came too slowly.",
    413: "The body, the image or the text is too large.",
    415: "Not JSON, or an image that is no JPEG, PNG or WebP.",
    422: "A field that is wrong; `error` names it, `value` is what it had, `fix` what it may have.",
    429: "More requests than the token's rate allows; Retry-After says when to ask again.",
    500: "A fault of the service.",
    503: "The queue is full, no replica answers, or the service is about to end.",
    504: "The search took too long.",
}
ABOUT_ASSETS = (401, 403, 404, 422, 429, 500, 503, 504)
LIST = {"type": "array", "items": STRING}
NUMBER, COUNT = {"type": "number"}, {"type": "integer", "minimum": 0}
DAY = {"type": "string", "format": "date"}
UID = {
    "name": "uid",
    "in": "path",
    "required": True,
    "schema": STRING,
    "description": "PROVIDER:ASSET_ID, percent-encoded.",
}


def document(about: About, bounds: Bounds) -> dict[str, Any]:
    told = f"Version {about.version} of {about.corpus}, by {about.encoder}."
    bound = "What a token is for (uses, territory) is bound to it; a query adds uses and takes places away."
    info = {"title": "pardalis search", "version": str(about.version), "description": f"{told} {bound}"}
    asset = [UID, *rights(bounds)]
    paths = {
        "/search": {"post": search()},
        "/facts": {"get": plain("What may be narrowed by, and who is asked", ref("Facts"), rights(bounds))},
        "/assets/{uid}": {"get": plain("One asset", ref("Asset"), asset)},
        "/thumbnails/{uid}": {"get": picture("Its picture, at most 320 pixels a side", asset)},
        "/images/{uid}": {"get": picture("Its training image", asset)},
        "/neighbors/{uid}": {
            "get": plain(
                "What was retrieved for it as a training target, in the order chosen", ref("Example"), asset
            )
        },
    }
    return description.document(info, paths, schemas(bounds))


def search() -> dict[str, Any]:
    body = {"schema": ref("Query"), "example": {"text": "red fruit", "k": 5}}
    rows = f"With Accept: {ARROW}, the results as an Arrow stream, the rest in its schema's metadata."
    return {
        "summary": "The assets nearest to words, a picture, a vector, an asset, or a weighted mix of them",
        "requestBody": {"required": True, "content": {JSON: body}},
        "responses": {
            "200": {
                "description": f"Best first. {rows}",
                "content": {JSON: {"schema": ref("Answer")}, ARROW: BINARY},
            },
            **errors(ERRORS),
        },
    }


def plain(summary: str, schema: dict[str, Any], parameters: list[Any]) -> dict[str, Any]:
    return got(summary, {JSON: {"schema": schema}}, parameters)


def picture(summary: str, parameters: list[Any]) -> dict[str, Any]:
    return got(summary, {"image/jpeg": BINARY}, parameters)


def rights(bounds: Bounds) -> list[dict[str, Any]]:
    """As ``where`` has them: what a search found by them is asked for by them."""
    items = {"uses": {"enum": sorted(bounds.uses)}, "territory": STRING}
    told = {"uses": "That it must be cleared for, beside the token's.", "territory": "ISO 3166-1 codes."}
    return [
        {
            "name": name,
            "in": "query",
            "schema": {"type": "array", "items": items[name]},
            "description": told[name],
        }
        for name in RIGHTS
    ]


def got(summary: str, content: dict[str, Any], parameters: list[Any]) -> dict[str, Any]:
    answer = {"description": summary, "content": content}
    told = {status: ERRORS[status] for status in ABOUT_ASSETS}
    return {"summary": summary, "parameters": parameters, "responses": {"200": answer, **errors(told)}}


def schemas(bounds: Bounds) -> dict[str, Any]:
    asset = {
        **dict.fromkeys(
            ("uid", "description", "contributor", "attribution", "image_type", "ai_generated"), STRING
        ),
        **dict.fromkeys(("keywords", "categories", "licenses"), LIST),
        **dict.fromkeys(("width", "height"), COUNT),
        "orientation": {"enum": ["landscape", "portrait", "square"]},
        "date": {"anyOf": [DAY, {"type": "null"}]},
    }
    result = {**asset, "score": NUMBER}
    hidden = {"score": NUMBER, "via": {"enum": ["image", "text"]}, "shown": {"type": "boolean"}}
    return {
        "Query": query(bounds),
        "Result": whole(result),
        "Asset": whole({**asset, "reasons": LIST}),
        "Answer": whole(
            {"results": many(ref("Result")), "eligible": COUNT, "took_ms": NUMBER, "version": COUNT}
        ),
        "Example": whole(
            {
                "target": whole(asset),
                # What is not shown has no fields beside these.
                "candidates": many(
                    {"type": "object", "properties": {**hidden, **asset}, "required": [*hidden]}
                ),
                "split": STRING,
            }
        ),
        "Facts": {"type": "object"},
        "Health": {"type": "object", "properties": {"status": STRING}},
    }


def query(bounds: Bounds) -> dict[str, Any]:
    width, weight = bounds.width, {"type": "number", "minimum": -MAX_WEIGHT, "maximum": MAX_WEIGHT}
    values = {"type": "array", "items": STRING, "minItems": 1, "maxItems": MAX_LISTED}
    uses = {**values, "items": {"enum": sorted(bounds.uses)}}
    where = {**dict.fromkeys((*FACETS, "territory"), values), "since": DAY, "until": DAY, "uses": uses}
    parts = {
        "text": {"type": "string", "maxLength": MAX_TEXT},
        "image": {
            "type": "string",
            "format": "byte",
            "description": f"At most {MAX_IMAGE} bytes, as base64.",
        },
        "vector": {"type": "array", "items": NUMBER, "minItems": width, "maxItems": width},
        "uid": {
            "type": "string",
            "description": "What is like that asset, itself and its duplicates left out.",
        },
    }
    return {
        "type": "object",
        "properties": {
            **parts,
            "weights": closed(dict.fromkeys(PARTS, weight)),
            "k": {"type": "integer", "minimum": 1, "maximum": MAX_K, "default": DEFAULT_K},
            "where": closed(where),
        },
        "anyOf": [{"required": [name]} for name in PARTS],
        "additionalProperties": False,
    }


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def whole(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}
