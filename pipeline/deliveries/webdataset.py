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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from infra.guarded import json, tar
from infra.guarded.refused import Refused
from infra.storage import Missing, Store
from pipeline import faults
from pipeline.contract import Asset, Delivery, DeliveryFile, License, Revocation, describe
from pipeline.fields import clean

MANIFEST = "delivery.json"
LICENSES = "licenses.jsonl"
REVOCATIONS = "revocations.jsonl"
MIME_OF = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
MAX_TEXT_BYTES = 8 * 1024
MAX_LINES_BYTES = 256 * 1024 * 1024
R = TypeVar("R", Delivery, License, Revocation)


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
        _verified(store, shard)
    return opened


def peek_delivery(store: Store) -> OpenDelivery:
    """The same without reading the shards: their names and sizes are checked, their bytes are not."""
    raw, where = _manifest(store), store.where(MANIFEST)
    document = json.loads(raw, file=where, limits=json.MANIFEST)
    [delivery] = _records(Delivery, [("", document)], where)
    _check_listing(store, delivery)
    small = {file.path: _verified(store, file) for file in delivery.files if file.role != "shard"}
    licenses = _lines(License, small, LICENSES, store)
    return OpenDelivery(
        store=store,
        delivery=delivery,
        licenses=_latest(licenses, store.where(LICENSES)),
        revocations=tuple(_lines(Revocation, small, REVOCATIONS, store)),
        manifest_sha256=hashlib.sha256(raw).hexdigest(),
    )


def _manifest(store: Store) -> bytes:
    try:
        return store.read(MANIFEST)
    except Missing:
        fix = "a delivery is a folder that holds one; see `pardalis contract template`"
        raise Refused(store.uri, MANIFEST, "missing", f"there is no such file; {fix}") from None


def _records(kind: type[R], documents: Iterable[tuple[str, Any]], where: str) -> list[R]:
    """Validated records; every fault of every document is told at once."""
    found, wrong = [], []
    for place, document in documents:
        try:
            found.append(kind.model_validate(document))
        except ValidationError as error:
            wrong.append(describe(error, f"{where} {place}".strip()))
    if wrong:
        raise ValueError("\n".join(wrong))
    return found


def _lines(kind: type[R], files: Mapping[str, bytes], name: str, store: Store) -> list[R]:
    where = store.where(name)
    return _records(kind, json.lines(files.get(name, b""), file=where), where)


def _latest(records: Iterable[License], where: str) -> dict[str, License]:
    """The highest revision of each licence; two different records of one revision are refused."""
    latest: dict[str, License] = {}
    for record in sorted(records, key=lambda record: record.license_revision):
        before = latest.get(record.license_id)
        if before is not None and before.license_revision == record.license_revision and before != record:
            fix = "raise license_revision of the newer one"
            raise Refused(where, record.license_id, "ambiguous", f"one revision has two meanings; {fix}")
        latest[record.license_id] = record
    return latest


def _check_listing(store: Store, delivery: Delivery) -> None:
    """Exactly the listed files are there, once each and of the listed size, the required ones among them."""
    listed = [file.path for file in delivery.files]
    present = set(store.names()) - {MANIFEST}
    where = store.where(MANIFEST)
    for path in sorted(present.symmetric_difference(listed)):
        rule, problem = ("unlisted", "is there") if path in present else ("missing", "is listed")
        raise Refused(where, path, rule, f"the file {problem}, but not the other way round; send it again")
    for path, again in itertools.pairwise(sorted(listed)):
        if path == again:
            raise Refused(where, path, "duplicate", "the file is listed twice; keep one entry")
    needed = (LICENSES, REVOCATIONS) if delivery.kind == "revocation" else (LICENSES,)
    for path in needed:
        if path not in present:
            raise Refused(where, path, "missing", f"a {delivery.kind} delivery has these records; add them")
    if delivery.form != "webdataset":
        raise Refused(where, "form", "form", f"got {delivery.form!r}; only 'webdataset' is read")
    for file in delivery.files:
        _check_size(store, file, store.size(file.path))


def _check_size(store: Store, file: DeliveryFile, size: int) -> None:
    cap = tar.SHARD.max_total_bytes if file.role == "shard" else MAX_LINES_BYTES
    if size != file.bytes:
        detail = f"{size} bytes, {MANIFEST} says {file.bytes}; send the file again"
        raise Refused(store.where(file.path), "", "size", detail)
    if size > cap:
        raise Refused(store.where(file.path), "", "size", f"{size} bytes, at most {cap} are read; split it")


def _verified(store: Store, file: DeliveryFile) -> bytes:
    """The file's bytes, which are those that the delivery lists."""
    _check_size(store, file, store.size(file.path))
    data = store.read(file.path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        detail = f"it is {digest}, {MANIFEST} says {file.sha256}; send the file again"
        raise Refused(store.where(file.path), "", "sha256", detail)
    return data


def read_shard(opened: OpenDelivery, shard: DeliveryFile) -> Iterator[Sample]:
    """Every sample of a shard, in its order, each once.

    The shard is held in memory (at most 2 GiB), so that the bytes that are parsed are the bytes that were
    hashed; the whole tar is walked before the first sample comes out. Raises :class:`Refused`.
    """
    data, where = _verified(opened.store, shard), opened.store.where(shard.path)
    keys = [name.partition(".")[0] for name, _ in tar.members(io.BytesIO(data), file=where)]
    _check_adjacent(keys, where)
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
