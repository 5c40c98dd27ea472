"""What the body of a request brings: images or codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.serving.bodies import JSON, document, from_base64
from infra.serving.refusal import Refusal
from tokenizer_service.serving.model import Facts

# B images, T codes of an image

MAX_IMAGES = 64
"""Of one request."""
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
RAW = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    files: Sequence[bytes]
    alone: bool
    """One, sent as it is, and answered so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    codes_BT: NDArray[np.int64]
    alone: bool


def images_of(body: bytes, kind: str) -> Images:
    if kind != JSON:
        return Images(files=[body], alone=True)
    texts = listed(document(body, most_values=2 * MAX_IMAGES + 8), "images")
    return Images(
        files=[from_base64(text, f"images[{place}]") for place, text in enumerate(texts)], alone=False
    )


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
