"""The service as an OpenAPI document, with this model's numbers in it. What it says is what tests ask."""

from __future__ import annotations

from typing import Any

from infra.serving import description
from infra.serving.bodies import JSON
from infra.serving.description import BINARY, errors
from tokenizer_service.serving.bodies import IMAGE_TYPES, MAX_IMAGES, RAW
from tokenizer_service.serving.model import Facts

ERRORS = {
    401: "No token, or a wrong one.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "Not one of the content types, or bytes that are no image.",
    422: "A broken image, too many or too few pixels, codes that are none; `value` names which.",
    429: "More images than the token's rate allows; Retry-After says when to ask again.",
    500: "A fault of the service.",
    503: "The queue is full, or the service is about to end.",
    504: "The model took too long.",
}


def document(facts: Facts, *, max_body: int) -> dict[str, Any]:
    info = {
        "title": "pardalis tokenizer",
        "version": facts.fingerprint[:12],
        "description": f"Images to {facts.codes} codes of {facts.codebook_size}, and back. "
        f"A body has at most {max_body} bytes, and a request at most {MAX_IMAGES} images.",
    }
    paths = {"/encode": {"post": encode(facts)}, "/decode": {"post": decode(facts)}}
    return description.document(info, paths, schemas(facts))


def encode(facts: Facts) -> dict[str, Any]:
    several = {"schema": listed("images", {"type": "string", "format": "byte"})}
    example = {"images": ["/9j/4AAQSkZJRg..."]}
    headers = ("X-Images", "X-Side", "X-Grid", "X-Codebook-Size", "X-Dtype", "X-Fingerprint")
    raw = f"{facts.dtype.name}, little-endian, {facts.codes} an image; the headers hold the rest."
    return {
        "summary": "Images to codes: one as it is, or several as base64 in JSON",
        "requestBody": {
            "required": True,
            "content": {**dict.fromkeys(IMAGE_TYPES, BINARY), JSON: {**several, "example": example}},
        },
        "responses": {
            "200": {
                "description": f"Codes in raster order. With Accept: {RAW}, {raw}",
                "headers": {name: {"schema": {"type": "string"}} for name in headers},
                "content": {
                    JSON: {"schema": {"$ref": "#/components/schemas/Codes"}, "example": codes(facts)},
                    RAW: BINARY,
                },
            },
            **errors(ERRORS),
        },
    }


def decode(facts: Facts) -> dict[str, Any]:
    given = listed("codes", {"anyOf": [row(facts), {"type": "integer", "minimum": 0}]})
    given["properties"]["codes"]["maxItems"] = max(MAX_IMAGES, facts.codes)
    several = {"schema": listed("images", {"type": "string", "format": "byte"})}
    return {
        "summary": "Codes to images: a list of codes, or a list of such lists",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": given, "example": {"codes": [0] * facts.codes}},
                RAW: BINARY,
            },
        },
        "responses": {
            "200": {
                "description": f"One image as PNG; several, or with Accept: {JSON}, as base64 in JSON.",
                "content": {"image/png": BINARY, JSON: several},
            },
            **errors(ERRORS),
        },
    }


def schemas(facts: Facts) -> dict[str, Any]:
    numbers = {name: {"type": "integer"} for name in ("side", "grid", "codebook_size")}
    told = {**numbers, "fingerprint": {"type": "string", "description": "sha256 of the weights' file."}}
    either = {"anyOf": [row(facts), {"type": "array", "items": row(facts)}]}
    return {
        "Codes": {"type": "object", "properties": {"codes": either, **told}, "required": ["codes", *told]},
        "Health": {"type": "object", "properties": {"status": {"type": "string"}, **told}},
    }


def codes(facts: Facts) -> dict[str, Any]:
    return {
        "codes": [0] * facts.codes,
        "side": facts.side,
        "grid": facts.grid,
        "codebook_size": facts.codebook_size,
        "fingerprint": facts.fingerprint,
    }


def row(facts: Facts) -> dict[str, Any]:
    code = {"type": "integer", "minimum": 0, "maximum": facts.codebook_size - 1}
    return {"type": "array", "items": code, "minItems": facts.codes, "maxItems": facts.codes}


def listed(name: str, items: dict[str, Any]) -> dict[str, Any]:
    some = {"type": "array", "items": items, "minItems": 1, "maxItems": MAX_IMAGES}
    return {"type": "object", "properties": {name: some}, "required": [name], "additionalProperties": False}
