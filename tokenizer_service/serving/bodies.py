"""What a request brings: its body, no more than it may have, and the images or codes in it.

The surprising rule: a body is measured while it comes. What its header says of its length is used to refuse
it sooner, and never believed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from infra.guarded import json as guarded_json
from infra.guarded.refused import Refused
from tokenizer_service.serving.callers import Place
from tokenizer_service.serving.model import Facts
from tokenizer_service.serving.refusal import Refusal

# B images, T codes of an image

BODY_S = 30.0
"""For a whole body: 16 MiB at 0.6 MB/s."""
MAX_IMAGES = 64
"""Of one request."""
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
JSON, RAW = "application/json", "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    files: Sequence[bytes]
    alone: bool
    """One, sent as it is, and answered so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    codes_BT: NDArray[np.int64]
    alone: bool


def media_type(request: Request, allowed: Sequence[str]) -> str:
    """Of the body; refused before a byte of it is read."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in allowed:
        raise Refusal(415, "wrong content type", value=found, fix=f"send {', '.join(allowed)}")
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise Refusal(415, "a body that is encoded", value=coding, fix="send it without Content-Encoding")
    return found


async def read(request: Request, place: Place, *, most: int) -> bytes:
    """The body, of at most ``most`` bytes; 413 as soon as it is known to be larger, 408 where it dawdles."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise too_large(length, most)
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                if len(found) + len(chunk) > most:
                    raise too_large(f"over {most}", most)
                place.grow(len(chunk))
                found += chunk
    except TimeoutError:
        told = f"{len(found)} bytes after {BODY_S:g} s"
        raise Refusal(408, "the body came too slowly", value=told, fix="send it at once") from None
    return bytes(found)


def too_large(value: str, most: int) -> Refusal:
    fix = f"send at most {most} bytes; make the image smaller, or send fewer"
    return Refusal(413, "the body is too large", value=f"{value} bytes", fix=fix)


def images_of(body: bytes, kind: str) -> Images:
    if kind != JSON:
        return Images(files=[body], alone=True)
    texts = listed(document(body, most_values=2 * MAX_IMAGES + 8), "images")
    return Images(files=[from_base64(text, place) for place, text in enumerate(texts)], alone=False)


def from_base64(text: Any, place: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        where = f"images[{place}]"
        raise Refusal(422, f"{where} is no base64", value=str(text)[:40], fix="encode the file") from None


def codes_of(body: bytes, kind: str, facts: Facts) -> Rows:
    """Rows of codes that are in the codebook, as many as an image has."""
    if kind == RAW:
        codes_BT = from_raw(body, facts)
        return Rows(codes_BT=codes_BT, alone=len(codes_BT) == 1)
    given = listed(document(body, most_values=MAX_IMAGES * (facts.codes + 2) + 8), "codes")
    alone = not isinstance(given[0], list)
    return Rows(codes_BT=from_lists([given] if alone else given, facts), alone=alone)


def from_raw(body: bytes, facts: Facts) -> NDArray[np.int64]:
    row_bytes = facts.codes * facts.dtype.itemsize
    images, left = divmod(len(body), row_bytes)
    if left or not 0 < images <= MAX_IMAGES:
        fix = f"send {row_bytes} bytes an image, for 1 to {MAX_IMAGES} images"
        raise Refusal(422, "not a whole number of images", value=f"{len(body)} bytes", fix=fix)
    codes_BT = np.frombuffer(body, facts.dtype).reshape(images, facts.codes).astype(np.int64)
    for row, column in np.argwhere(codes_BT >= facts.codebook_size).tolist():
        raise no_code(row, column, codes_BT[row, column], facts)
    return codes_BT


def from_lists(rows: Sequence[Any], facts: Facts) -> NDArray[np.int64]:
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != facts.codes:
            value = f"codes[{place}] has {len(row) if isinstance(row, list) else 'no'} codes"
            fix = f"give {facts.codes} whole numbers an image, in raster order"
            raise Refusal(422, "not the codes of an image", value=value, fix=fix)
        for column, code in enumerate(row):
            if type(code) is not int or not 0 <= code < facts.codebook_size:
                raise no_code(place, column, code, facts)
    return np.asarray(rows, np.int64)


def no_code(row: int, column: int, code: object, facts: Facts) -> Refusal:
    fix = f"codes are whole numbers from 0 to {facts.codebook_size - 1}"
    return Refusal(422, "no such code", value=f"codes[{row}][{column}] = {code}", fix=fix)


def document(body: bytes, *, most_values: int) -> Any:
    """By our own guarded reader: no key twice, little depth, no more values than a request may bring."""
    limits = guarded_json.Limits(
        max_bytes=len(body), max_depth=4, max_values=most_values, max_string=len(body)
    )
    try:
        return guarded_json.loads(body, file="body", limits=limits)
    except Refused as error:
        raise Refusal(
            422, f"the body breaks the rule {error.rule}", value=error.detail, fix="send plain JSON"
        ) from None


def listed(given: Any, name: str) -> list[Any]:
    """The only field of the document: a list with something in it, of at most so many images."""
    if not isinstance(given, dict) or set(given) != {name} or not isinstance(given[name], list):
        value = ", ".join(given) if isinstance(given, dict) else type(given).__name__
        raise Refusal(422, f"no list {name!r}", value=value, fix=f'send {{"{name}": [...]}} and nothing else')
    found: list[Any] = given[name]
    of_images = bool(found) and isinstance(found[0], list | str)
    if not found or (of_images and len(found) > MAX_IMAGES):
        value, fix = f"{len(found)} in {name}", f"give 1 to {MAX_IMAGES}"
        raise Refusal(422, "not that many at once", value=value, fix=fix)
    return found
