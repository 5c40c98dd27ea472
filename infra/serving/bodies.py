"""What a request brings: its body, no more than it may have, as bytes or as JSON.

The surprising rule: a body is measured while it comes. What its header says of its length is used to refuse
it sooner, and never believed.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from infra.guarded import json as guarded_json
from infra.guarded.refused import Refused
from infra.serving.callers import Place
from infra.serving.refusal import Refusal

BODY_S = 30.0
"""For a whole body: 16 MiB at 0.6 MB/s."""
JSON = "application/json"


def media_type(request: Request, allowed: Sequence[str]) -> str:
    """Of the body; refused before a byte of it is read."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in allowed:
        raise Refusal(415, "wrong content type", value=found, fix=f"send {', '.join(allowed)}")
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise Refusal(415, "a body that is encoded", value=coding, fix="send it without Content-Encoding")
    return found


def accepts(request: Request, kind: str) -> bool:
    return kind in request.headers.get("accept", "")


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


def from_base64(text: Any, where: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, TypeError, ValueError):
        raise Refusal(422, f"{where} is no base64", value=str(text)[:40], fix="encode the file") from None


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
