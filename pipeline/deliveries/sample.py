"""One sample of a delivery, whatever its form: a record and an image, checked against each other.

The surprising rule: a sample that is wrong is a :class:`Fault`, alone. Every sample comes out once, as an
asset or as a fault with its reason.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from infra.guarded import json
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import faults
from pipeline.contract import Asset, Delivery, describe
from pipeline.fields import clean

MIME_OF = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
MAX_TEXT_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why one sample is quarantined."""

    code: str
    """One of no_record, no_license, invalid_json, invalid_record, key_mismatch, provider_mismatch,
    delivery_mismatch, no_image, several_images, size_mismatch, sha256_mismatch, mime_mismatch, invalid_text,
    text_mismatch."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One key. ``image`` is empty where the delivery brought none, or several."""

    key: str
    asset: Asset | Fault
    image: bytes
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A delivery and where its files are. It pickles, so workers read samples from it."""

    store: Store
    delivery: Delivery


class Wrong(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.fault = Fault(code=code, message=message)


Record = Callable[[], Any]
"""Reads the record of a sample, as a document; raises :class:`Wrong`, or Refused where it is no JSON."""


def sample(key: str, parts: Mapping[str, bytes], delivery: Delivery) -> Sample:
    """The sample of files that share a key, by extension: ``json`` is the record, ``txt`` the caption."""

    def record() -> Any:
        if "json" not in parts:
            raise Wrong("no_record", f"{key}.json was not delivered; every image needs its record")
        return json.loads(parts["json"], file=f"{key}.json")

    return described(key, record, parts, delivery=delivery, name=f"{key}.json")


def described(
    key: str, record: Record, parts: Mapping[str, bytes], *, delivery: Delivery, name: str
) -> Sample:
    """The sample of a record that stands elsewhere: ``name`` says where, in faults."""
    images = [extension for extension in parts if extension in MIME_OF]
    image = parts[images[0]] if len(images) == 1 else b""
    try:
        asset = _asset(key, record, delivery, name)
        _check_image(images, image, asset)
        text = _text(parts.get("txt"), asset)
    except Wrong as wrong:
        return Sample(key=key, asset=wrong.fault, image=image, text=None)
    return Sample(key=key, asset=asset, image=image, text=text)


def _asset(key: str, record: Record, delivery: Delivery, name: str) -> Asset:
    """The record, of this provider, of this delivery, under its own key."""
    try:
        asset = Asset.model_validate(record())
    except Refused as refused:
        raise Wrong("invalid_json", str(refused)) from None
    except ValidationError as error:
        unlicensed = faults.fields(error) == ["license_ids"]
        raise Wrong("no_license" if unlicensed else "invalid_record", describe(error, name)) from None
    claims = {
        "key_mismatch": ("asset_id", asset.asset_id, key),
        "provider_mismatch": ("provider", asset.provider, delivery.provider),
        "delivery_mismatch": ("delivery_id", asset.delivery_id or delivery.delivery_id, delivery.delivery_id),
    }
    for code, (field, claimed, actual) in claims.items():
        if claimed != actual:
            raise Wrong(code, f"{name}: {field}: got {claimed!r}; make it {actual!r}, as delivered")
    return asset.model_copy(update={"delivery_id": delivery.delivery_id})


def _check_image(images: list[str], image: bytes, asset: Asset) -> None:
    """Exactly one image, and its bytes, hash and kind are those of the record. Pixels are not looked at."""
    if len(images) != 1:
        code = "several_images" if images else "no_image"
        raise Wrong(code, f"{len(images)} images under one key, need exactly 1 ({', '.join(MIME_OF)})")
    file, digest = asset.file, hashlib.sha256(image).hexdigest()
    kind = _magic(image)
    if len(image) != file.bytes:
        raise Wrong("size_mismatch", f"file.bytes: got {file.bytes}; the image has {len(image)}")
    if digest != file.sha256:
        raise Wrong("sha256_mismatch", f"file.sha256: got {file.sha256}; the image has {digest}")
    if not file.mime == MIME_OF[images[0]] == kind:
        problem = (
            f"got {file.mime}; the member is .{images[0]} and its bytes are {kind or 'of no known kind'}"
        )
        raise Wrong("mime_mismatch", f"file.mime: {problem}")


def _magic(image: bytes) -> str | None:
    """The kind that the first bytes announce."""
    if image.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/webp" if image[:4] == b"RIFF" and image[8:12] == b"WEBP" else None


def _text(raw: bytes | None, asset: Asset) -> str | None:
    """The caption member, which says what the record says, or is not there."""
    if raw is None:
        return None
    try:
        text = clean(unicodedata.normalize("NFC", raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise Wrong("invalid_text", f"byte {error.start} of the caption is not UTF-8") from None
    if len(raw) > MAX_TEXT_BYTES:
        raise Wrong("invalid_text", f"{len(raw)} bytes of caption, at most {MAX_TEXT_BYTES} are read")
    if text != asset.description:
        fix = "make KEY.txt equal to description, or leave it out"
        told = f"got {text[:60]!a}, description is {asset.description[:60]!a}; {fix}"
        raise Wrong("text_mismatch", told)
    return text
