"""Form (i) of a delivery: WebDataset tars beside ``delivery.json`` and ``licenses.jsonl``.

The surprising rule is who suffers for what. A tar that lies (a link, a sparse member, a name given twice, a
wrong sha256) is refused whole, before its first sample. A sample that is merely wrong inside a good tar
becomes a :class:`Fault`, alone: every sample comes out once, as an asset or as a fault with its reason.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from infra.guarded import json, tar
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import faults
from pipeline.contract import Asset, Delivery, DeliveryFile, License, Revocation, describe
from pipeline.deliveries import manifest
from pipeline.deliveries.manifest import LICENSES, MANIFEST, REVOCATIONS
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
    """One key of a shard. ``image`` is empty where the shard brought none, or several."""

    key: str
    asset: Asset | Fault
    image: bytes
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDelivery:
    """A delivery whose files are those that it lists. It pickles, so workers read shards from it."""

    store: Store
    delivery: Delivery
    licenses: Mapping[str, License]
    """By id; the highest revision of each."""
    revocations: tuple[Revocation, ...]
    manifest_sha256: str
    records: Mapping[str, bytes]
    """The very bytes that were checked, by path: ``delivery.json``, the licences and the revocations."""

    @property
    def shards(self) -> tuple[DeliveryFile, ...]:
        return tuple(file for file in self.delivery.files if file.role == "shard")


def open_delivery(store: Store) -> OpenDelivery:
    """Read the records and check every listed file's size and sha256, shards included.

    Raises :class:`Refused` for files that are missing, changed or not listed, and ValueError with every fault
    of every record. Where the shards are too many to hash in one process, :func:`peek_delivery` will do:
    :func:`read_shard` checks its own shard again.
    """
    opened = peek_delivery(store)
    for shard in opened.shards:
        manifest.verified(store, shard)
    return opened


def peek_delivery(store: Store) -> OpenDelivery:
    """The same without reading the shards: their names and sizes are checked, their bytes are not."""
    raw, where = manifest.fetch(store), store.where(MANIFEST)
    delivery = manifest.read_delivery(raw, where)
    manifest.check_supported(delivery, where)
    manifest.check_listing(store, delivery)
    kept = {MANIFEST: raw}
    for file in delivery.files:
        if file.role != "shard":
            data = manifest.verified(store, file)
            kept |= {file.path: data} if file.path in (LICENSES, REVOCATIONS) else {}
    licenses = manifest.read_licenses(kept.get(LICENSES, b""), store.where(LICENSES))
    revocations = manifest.read_revocations(kept.get(REVOCATIONS, b""), store.where(REVOCATIONS))
    manifest.check_provider(revocations, delivery.provider, store.where(REVOCATIONS))
    manifest.check_counts(delivery, counted(delivery, licenses, revocations), where)
    return OpenDelivery(
        store=store,
        delivery=delivery,
        licenses=manifest.latest(licenses, store.where(LICENSES)),
        revocations=tuple(revocations),
        manifest_sha256=hashlib.sha256(raw).hexdigest(),
        records=kept,
    )


def counted(
    delivery: Delivery, licenses: Sequence[License], revocations: Sequence[Revocation]
) -> dict[str, int | None]:
    """What can be counted before the shards are read; samples only where every shard says how many it has."""
    told = [file.samples for file in delivery.files if file.role == "shard"]
    known = [samples for samples in told if samples is not None]
    return {
        "samples": sum(known) if len(known) == len(told) else None,
        "shards": len(told),
        "files": len(delivery.files),
        "licenses": len(licenses),
        "revocations": len(revocations),
    }


def read_shard(opened: OpenDelivery, shard: DeliveryFile) -> Iterator[Sample]:
    """Every sample of a shard, in its order, each once.

    The shard is held in memory (at most 2 GiB), so that the bytes that are parsed are the bytes that were
    hashed; the whole tar is walked before the first sample comes out. Raises :class:`Refused`.
    """
    data, where = manifest.verified(opened.store, shard), opened.store.where(shard.path)
    keys = [name.partition(".")[0] for name, _ in tar.members(io.BytesIO(data), file=where)]
    _check_adjacent(keys, where)
    _check_samples(shard, len(set(keys)), where)
    members = tar.members(io.BytesIO(data), file=where)
    for key, group in itertools.groupby(members, key=lambda member: member[0].partition(".")[0]):
        yield _sample(key, {name.partition(".")[2]: content for name, content in group}, opened.delivery)


def _check_adjacent(keys: list[str], where: str) -> None:
    runs = [key for key, _ in itertools.groupby(keys)]
    seen: set[str] = set()
    for key in runs:
        if key in seen:
            raise Refused(
                where, key, "scattered", "members of one key are not adjacent; sort the tar by name"
            )
        seen.add(key)


def _check_samples(shard: DeliveryFile, num: int, where: str) -> None:
    if shard.samples not in (None, num):
        fix = "send the whole tar, or correct the number"
        raise Refused(where, "", "samples", f"it holds {num}, {MANIFEST} says {shard.samples}; {fix}")


class _Wrong(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.fault = Fault(code=code, message=message)


def _sample(key: str, parts: Mapping[str, bytes], delivery: Delivery) -> Sample:
    images = [extension for extension in parts if extension in MIME_OF]
    image = parts[images[0]] if len(images) == 1 else b""
    try:
        asset = _asset(key, parts, delivery)
        _check_image(images, image, asset)
        text = _text(parts.get("txt"), asset)
    except _Wrong as wrong:
        return Sample(key=key, asset=wrong.fault, image=image, text=None)
    return Sample(key=key, asset=asset, image=image, text=text)


def _asset(key: str, parts: Mapping[str, bytes], delivery: Delivery) -> Asset:
    """The record, of this provider, of this delivery, under its own key."""
    name = f"{key}.json"
    if "json" not in parts:
        raise _Wrong("no_record", f"{name} is not in the shard; every image needs its record")
    try:
        asset = Asset.model_validate(json.loads(parts["json"], file=name))
    except Refused as refused:
        raise _Wrong("invalid_json", str(refused)) from None
    except ValidationError as error:
        unlicensed = faults.fields(error) == ["license_ids"]
        raise _Wrong("no_license" if unlicensed else "invalid_record", describe(error, name)) from None
    claims = {
        "key_mismatch": ("asset_id", asset.asset_id, key),
        "provider_mismatch": ("provider", asset.provider, delivery.provider),
        "delivery_mismatch": ("delivery_id", asset.delivery_id or delivery.delivery_id, delivery.delivery_id),
    }
    for code, (field, claimed, actual) in claims.items():
        if claimed != actual:
            raise _Wrong(code, f"{name}: {field}: got {claimed!r}; make it {actual!r}, as delivered")
    return asset.model_copy(update={"delivery_id": delivery.delivery_id})


def _check_image(images: list[str], image: bytes, asset: Asset) -> None:
    """Exactly one image, and its bytes, hash and kind are those of the record. Pixels are not looked at."""
    if len(images) != 1:
        code = "several_images" if images else "no_image"
        raise _Wrong(code, f"{len(images)} images under one key, need exactly 1 ({', '.join(MIME_OF)})")
    file, digest = asset.file, hashlib.sha256(image).hexdigest()
    kind = _magic(image)
    if len(image) != file.bytes:
        raise _Wrong("size_mismatch", f"file.bytes: got {file.bytes}; the image has {len(image)}")
    if digest != file.sha256:
        raise _Wrong("sha256_mismatch", f"file.sha256: got {file.sha256}; the image has {digest}")
    if not file.mime == MIME_OF[images[0]] == kind:
        problem = (
            f"got {file.mime}; the member is .{images[0]} and its bytes are {kind or 'of no known kind'}"
        )
        raise _Wrong("mime_mismatch", f"file.mime: {problem}")


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
        raise _Wrong("invalid_text", f"byte {error.start} of the caption is not UTF-8") from None
    if len(raw) > MAX_TEXT_BYTES:
        raise _Wrong("invalid_text", f"{len(raw)} bytes of caption, at most {MAX_TEXT_BYTES} are read")
    if text != asset.description:
        fix = "make KEY.txt equal to description, or leave it out"
        told = f"got {text[:60]!a}, description is {asset.description[:60]!a}; {fix}"
        raise _Wrong("text_mismatch", told)
    return text
