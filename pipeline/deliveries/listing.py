"""What a delivery says of itself: ``delivery.json``, the licences, the revocations, and whether it is true.

The surprising rule: nothing that a delivery claims is passed over. A signature that nobody can verify, a
count that nobody can compare and a record that speaks for another provider refuse the whole delivery, since
whoever reads on would take them for checked. What an operating system leaves in folders (``.DS_Store``,
``Thumbs.db``) is no part of a delivery, and is neither listed nor read.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from infra.guarded import json, nfc, tar
from infra.guarded.hashed import Hashed
from infra.guarded.refused import Refused
from infra.storage import Missing, Store
from pipeline import credentials
from pipeline.contract import Delivery, DeliveryFile, License, Revocation, describe
from pipeline.deliveries import columns

MANIFEST = "delivery.json"
LICENSES = "licenses.jsonl"
REVOCATIONS = "revocations.jsonl"
MAX_WRONG = 20
"""Documents whose faults are told: what people read, they mend."""
MAX_LINES_BYTES = 64 * 1024 * 1024
MAX_BYTES = {
    "shard": tar.SHARD.max_total_bytes,
    "image": tar.SHARD.max_member_bytes,
    "sidecar": 4 * 1024 * 1024,
    "licenses": 4 * 1024 * 1024,
    "revocations": 8 * 1024 * 1024,
}
"""By role; other files are lines or tables, whose readers may take less. 7,000 licences take 20 MiB,
and the million assets that 8 MiB of revocations may name 61 MiB."""
MAX_SAID = 128 * 1024
"""Characters of ``delivery.json`` but for its list of files: each may be at fault, and every asset repeats
what is stated of all."""
BULK = frozenset({"shard", "image", "sidecar"})
"""Roles of what brings samples: too much to read just to see what a delivery is. Tables are read for that."""
LEFT_BEHIND = frozenset({"thumbs.db", "desktop.ini"})
"""Names that Windows leaves in folders; those of other systems begin with a dot."""
R = TypeVar("R", Delivery, License, Revocation)


def fetch(store: Store) -> bytes:
    try:
        return store.read(MANIFEST, at_most=json.MANIFEST.max_bytes + 1)
    except Missing:
        fix = "a delivery is a folder that holds one; see `pardalis contract template`"
        raise Refused(store.uri, MANIFEST, "missing", f"there is no such file; {fix}") from None


def read_delivery(raw: bytes, where: str) -> Delivery:
    """``delivery.json``; ``where`` names it in errors."""
    document = json.loads(raw, file=where, limits=json.MANIFEST)
    said = {**document, "files": []} if isinstance(document, dict) else document
    if columns.weight(said) > MAX_SAID:
        told = f"over {MAX_SAID} characters beside its list of files; say less in it"
        raise Refused(where, "", "size", told)
    [delivery] = _records(Delivery, [("", document)], where)
    return delivery


def read_licenses(raw: bytes, where: str) -> list[License]:
    return _records(License, json.lines(raw, file=where), where)


def read_revocations(raw: bytes, where: str) -> list[Revocation]:
    return _records(Revocation, json.lines(raw, file=where), where)


def revocations_at(store: Store, name: str) -> list[Revocation]:
    """Of a file that no delivery brought."""
    most, where = MAX_BYTES["revocations"], store.where(name)
    raw = store.read(name, at_most=most + 1)
    if len(raw) > most:
        raise Refused(where, "", "size", f"over {most} bytes; split it into several files")
    return read_revocations(raw, where)


def _records(kind: type[R], documents: Iterable[tuple[str, Any]], where: str) -> list[R]:
    """Validated records; the faults of the first documents that have any are told at once."""
    found: list[R] = []
    wrong: list[str] = []
    for place, document in documents:
        if len(wrong) == MAX_WRONG:
            wrong.append(f"{where}: and perhaps more; mend these and try again")
            break
        if held := credentials.told(document):
            wrong.append(f"{where} {place}".strip() + f": {held}")
            continue
        try:
            found.append(kind.model_validate(document))
        except ValidationError as error:
            wrong.append(describe(error, f"{where} {place}".strip()))
    if wrong:
        raise ValueError("\n".join(wrong))
    return found


def latest(records: Iterable[License], where: str) -> dict[str, License]:
    """The highest revision of each licence; two different records of one revision are refused."""
    found: dict[str, License] = {}
    for record in sorted(records, key=lambda record: record.license_revision):
        before = found.get(record.license_id)
        if before is not None and before.license_revision == record.license_revision and before != record:
            told = f"revision {record.license_revision} has two meanings; raise license_revision of the newer"
            raise Refused(where, record.license_id, "ambiguous", told)
        found[record.license_id] = record
    return found


def check_supported(delivery: Delivery, where: str) -> None:
    if delivery.signature is not None:
        told = f"key {delivery.signature.key_id[:80]!a}: signatures are not verified yet; send it without one"
        raise Refused(where, "signature", "signature", told)


def left_behind(path: str) -> bool:
    """Whether an operating system, or a tool of its kind, left the file there.

    >>> [left_behind(path) for path in (".DS_Store", "a/Thumbs.db", ".git/config", "a/b.jpg")]
    [True, True, True, False]
    """
    return any(part.startswith(".") or part.lower() in LEFT_BEHIND for part in path.split("/"))


def check_listing(store: Store, delivery: Delivery) -> Delivery:
    """Exactly the listed files are there, once each and of the listed size, the required ones among them.

    The same delivery, its files under the names that they have where they lie: ``delivery.json`` is read in
    NFC, and some systems part an accent from its letter.
    """
    where, sizes = store.where(MANIFEST), store.sizes()
    listed = [nfc.normal(file.path) for file in delivery.files]
    present = lying(sizes.keys() - {MANIFEST}, frozenset(listed), where)
    check_names(listed, present, where)
    if (needed := needed_records(delivery.kind)) not in present:
        raise Refused(where, needed, "missing", f"a {delivery.kind} delivery has these records; add them")
    files = tuple(
        file if file.path == present[path] else file.model_copy(update={"path": present[path]})
        for path, file in zip(listed, delivery.files, strict=True)
    )
    for file in files:
        check_size(store, file, sizes[file.path])
    return delivery.model_copy(update={"files": files})


def check_names(listed: Collection[str], present: Mapping[str, str], where: str) -> None:
    for path in sorted(present.keys() ^ listed):
        if path in present:
            told = f"it lies in the delivery and {MANIFEST} does not list it; list it, or take it away"
            raise Refused(where, present[path], "unlisted", told)
        told = "it is listed, and no file (a link is none) of that name lies in the delivery; send it again"
        raise Refused(where, path, "missing", told)
    for path, again in itertools.pairwise(sorted(listed)):
        if path == again:
            raise Refused(where, path, "duplicate", "the file is listed twice; keep one entry")


def lying(names: Iterable[str], listed: Collection[str], where: str) -> dict[str, str]:
    """The names of a delivery's files, by their spelling in NFC; what was left behind is there if listed."""
    found: dict[str, str] = {}
    for name in sorted(names):
        path = nfc.normal(name)
        if path in found:
            told = f"it and {found[path]!a} are one name, written in two ways; rename one of them"
            raise Refused(where, name, "ambiguous", told)
        if path in listed or not left_behind(path):
            found[path] = name
    return found


def needed_records(kind: str) -> str:
    """What a delivery is nothing without: licences, or what it takes back."""
    return REVOCATIONS if kind == "revocation" else LICENSES


def check_counts(delivery: Delivery, found: Mapping[str, int | None], where: str) -> None:
    """Every count of ``delivery.json`` is one that we know, and is what was found (None: not known yet)."""
    for name, told in delivery.counts.items():
        if name not in found:
            fix = f"counts that are compared are {', '.join(found)}; leave it out"
            raise Refused(where, f"counts.{name[:80]!a}", "counts", f"nothing here is counted so; {fix}")
        if found[name] not in (None, told):
            fix = "send what is missing, or correct the count"
            raise Refused(where, f"counts.{name}", "counts", f"got {told}, but {found[name]} arrived; {fix}")


def check_provider(records: Iterable[Revocation], provider: str, where: str) -> None:
    """A provider takes back what is its own: in its own name, in its own delivery."""
    for record in records:
        if record.provider != provider:
            told = f"it is in the name of {record.provider!r} and came from {provider!r}"
            fix = "a provider revokes in its own delivery"
            raise Refused(where, record.revocation_id, "provider", f"{told}; {fix}")


def verified(store: Store, file: DeliveryFile) -> bytes:
    """The file's bytes, which are those that the delivery lists."""
    check_size(store, file, file.bytes)
    data = store.read(file.path, at_most=file.bytes + 1)
    check_size(store, file, len(data))
    check_digest(store, file, hashlib.sha256(data).hexdigest())
    return data


def check_bytes(store: Store, file: DeliveryFile) -> None:
    """The same for a file of any size, of which only a piece is in memory."""
    check_size(store, file, file.bytes)
    with store.open(file.path) as opened:
        stream = Hashed(opened, most=file.bytes + 1)
        stream.drain()
    check_size(store, file, stream.num_bytes)
    check_digest(store, file, stream.sha256.hexdigest())


def check_digest(store: Store, file: DeliveryFile, digest: str) -> None:
    if digest != file.sha256:
        detail = f"it is {digest}, {MANIFEST} says {file.sha256}; send the file again"
        raise Refused(store.where(file.path), "", "sha256", detail)


def check_size(store: Store, file: DeliveryFile, size: int) -> None:
    cap = MAX_BYTES.get(file.role, MAX_LINES_BYTES)
    if size != file.bytes:
        detail = f"{size} bytes, {MANIFEST} says {file.bytes}; send the file again"
        raise Refused(store.where(file.path), "", "size", detail)
    if size > cap:
        raise Refused(store.where(file.path), "", "size", f"{size} bytes, at most {cap} are read; split it")
