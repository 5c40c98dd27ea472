"""One sample of a delivery, whatever its form: a record and an image, checked against each other.

The surprising rules: a sample that is wrong is a :class:`Fault`, alone; every sample comes out once, as an
asset or as a fault with its reason. And a record is judged when it is asked for: who wants nothing but the
pictures of those that were admitted pays nothing for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from infra.guarded import json, nfc
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import credentials, faults, stated
from pipeline.contract import Asset, Delivery, describe
from pipeline.fields import clean
from tokenizer_service import images

MIME_OF = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
MAX_TEXT_BYTES = 8 * 1024
SIDE_BYTES = {"json": json.ASSET.max_bytes + 1, "txt": MAX_TEXT_BYTES + 1}
"""Of what lies beside an image, by extension: as much as is read, and one byte by which it is too long."""
MAX_FAULTS, MAX_MESSAGE = 3, 400
"""Told of a record, and characters of all: a tar may have 40,000 records, each with thousands of faults."""


Outcome = Literal["rejected", "quarantined", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why one sample is no asset."""

    code: str
    """One of no_record, no_license, invalid_json, invalid_record, key_mismatch, provider_mismatch,
    delivery_mismatch, no_image, several_images, size_mismatch, sha256_mismatch, mime_mismatch, invalid_text,
    text_mismatch, credential, undecodable, duplicate, ambiguous_image, or a code of what became of an
    address (:mod:`pipeline.fetching`)."""
    message: str
    outcome: Outcome = "quarantined"
    """Rejected without a licence; failed where the image cannot be had or read; else a person may mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One key. ``image`` is empty where the delivery brought none, or several."""

    key: str
    judge: Callable[[], Asset | Fault]
    image: bytes
    sha256: str = ""
    """Of the image, where it is known already."""
    packets: tuple[bytes, ...] = ()
    """XMP that was delivered beside the image."""

    @property
    def asset(self) -> Asset | Fault:
        """The record, checked against the image: anew each time."""
        return self.judge()

    def digest(self) -> str:
        return self.sha256 or hashlib.sha256(self.image).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A delivery and where its files are. It pickles, so workers read samples from it."""

    store: Store
    delivery: Delivery


class Wrong(ValueError):
    def __init__(self, code: str, message: str, *, failed: bool = False) -> None:
        super().__init__(code, message)
        message = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}..."
        outcome: Outcome = "failed" if failed else "rejected" if code == "no_license" else "quarantined"
        self.fault = Fault(code=code, message=message, outcome=outcome)


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
    key: str,
    record: Record,
    parts: Mapping[str, bytes] | None,
    *,
    delivery: Delivery,
    name: str,
    sha256: str = "",
) -> Sample:
    """The sample of a record that stands elsewhere: ``name`` says where, in faults.

    ``None`` for parts that nobody went to see: the record is judged by itself.
    """
    seen = parts or {}
    kinds = [extension for extension in seen if extension in MIME_OF]
    image = seen[kinds[0]] if len(kinds) == 1 else b""
    packets = (seen["xmp"],) if "xmp" in seen else ()

    def judge() -> Asset | Fault:
        try:
            asset = _asset(key, record, delivery, name)
            if parts is not None:
                _check_image(kinds, found, asset, name)
            _check_text(seen.get("txt"), asset, name)
        except Wrong as wrong:
            return wrong.fault
        return asset

    found = Sample(key=key, judge=judge, image=image, sha256=sha256, packets=packets)
    return found


def faulty(key: str, fault: Fault) -> Sample:
    """A sample of which nothing but the fault is known."""
    return Sample(key=key, judge=lambda: fault, image=b"")


def file_facts(image: bytes, sha256: str, claimed: Mapping[str, Any]) -> dict[str, Any]:
    """``file`` of a record that need not describe its image in full: what it leaves out is read from the
    bytes, and what it says stays, to be compared.

    Raises :class:`Wrong` for an image whose header cannot be read.
    """
    kind = magic(image)
    if kind is None:
        raise Wrong("mime_mismatch", f"file.mime: the bytes are no {', '.join(MIME_OF)}; send one of them")
    try:
        header = images.probe(image)
    except images.Undecodable as error:
        raise Wrong("undecodable", str(error), failed=True) from None
    size = {"width": header.width, "height": header.height}
    return {"sha256": sha256, "bytes": len(image), "mime": kind, **size, **claimed}


def _asset(key: str, record: Record, delivery: Delivery, name: str) -> Asset:
    """The record, of this provider, of this delivery, under its own key."""
    try:
        document = record()
        if isinstance(document, dict):
            document = stated.filled(document, delivery.every_asset)
        if held := credentials.told(document):
            raise Wrong("credential", f"{name}: {held}")
        asset = Asset.model_validate(document)
    except Refused as refused:
        raise Wrong("invalid_json", str(refused)) from None
    except ValidationError as error:
        unlicensed = faults.fields(error) == ["license_ids"]
        raise Wrong(
            "no_license" if unlicensed else "invalid_record", describe(error, name, MAX_FAULTS)
        ) from None
    claims = {
        "key_mismatch": ("asset_id", asset.asset_id, key),
        "provider_mismatch": ("provider", asset.provider, delivery.provider),
        "delivery_mismatch": ("delivery_id", asset.delivery_id or delivery.delivery_id, delivery.delivery_id),
    }
    for code, (field, claimed, actual) in claims.items():
        if claimed != actual:
            raise Wrong(code, f"{name}: {field}: got {claimed!r}; make it {actual!r}, as delivered")
    return asset.model_copy(update={"delivery_id": delivery.delivery_id})


def _check_image(kinds: list[str], sample: Sample, asset: Asset, name: str) -> None:
    """Exactly one image, and its bytes, hash and kind are those of the record. Pixels are not looked at."""
    if len(kinds) != 1:
        code = "several_images" if kinds else "no_image"
        raise Wrong(code, f"{name}: {len(kinds)} images under one key; send exactly 1 ({', '.join(MIME_OF)})")
    file, image, kind = asset.file, sample.image, magic(sample.image)
    fix = "correct the record, or send the image again"
    if len(image) != file.bytes:
        raise Wrong(
            "size_mismatch", f"{name}: file.bytes: got {file.bytes}; the image has {len(image)}; {fix}"
        )
    if (digest := sample.digest()) != file.sha256:
        raise Wrong(
            "sha256_mismatch", f"{name}: file.sha256: got {file.sha256}; the image has {digest}; {fix}"
        )
    if not file.mime == MIME_OF[kinds[0]] == kind:
        told = f"got {file.mime}; it is named .{kinds[0]} and its bytes are {kind or 'of no known kind'}"
        raise Wrong("mime_mismatch", f"{name}: file.mime: {told}; {fix}")


def magic(image: bytes) -> str | None:
    """The kind that the first bytes announce."""
    if image.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/webp" if image[:4] == b"RIFF" and image[8:12] == b"WEBP" else None


def _check_text(raw: bytes | None, asset: Asset, name: str) -> None:
    """The caption member says what the record says, or is not there."""
    if raw is None:
        return
    if len(raw) > MAX_TEXT_BYTES:
        raise Wrong("invalid_text", f"{name}: over {MAX_TEXT_BYTES} bytes of caption; cut it")
    try:
        text = clean(nfc.normal(raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise Wrong(
            "invalid_text", f"{name}: byte {error.start} of the caption is not UTF-8; write it so"
        ) from None
    if text != asset.description:
        fix = "make KEY.txt equal to description, or leave it out"
        told = f"got {text[:60]!a}, description is {asset.description[:60]!a}; {fix}"
        raise Wrong("text_mismatch", f"{name}: {told}")
