"""The corpus's copy of what a delivery was opened as: its records, its batches and their rows.

Every later decision is made, and every key computed, without the delivery's own tables. Rows are files named
by their sha256; the list of batches names them, and a version names the list. Of signed addresses only their
number is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infra.artifact import canonical
from infra.corpus import Folded
from infra.storage import Store
from pipeline import refs
from pipeline.contract import DeliveryFile
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.folder import ROLES, stem
from pipeline.deliveries.listing import MANIFEST
from pipeline.deliveries.opened import OpenDelivery
from pipeline.naming import asset_id

BATCHES = "batches.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBatch:
    """A batch as it is listed: its rows are read by whoever works on it."""

    files: tuple[DeliveryFile, ...]
    rows: refs.Ref | None
    addresses: int
    signed: int
    """Rows whose address has more to it than they hold."""
    facts: dict[str, Any]


def folder(sha256: str) -> str:
    """Where the corpus keeps a delivery's own records."""
    return f"deliveries/{sha256}"


def write(store: Store, opened: OpenDelivery, records: Sequence[str]) -> str:
    """Copy the records, the very bytes that were checked, and the batches; the sha256 of their list."""
    here = folder(opened.manifest_sha256)
    for name in records:
        # Written and not created: what an ingest that was cut short left there is not taken on trust.
        store.write(f"{here}/{name}", opened.records[name])
    lines = b"".join(canonical(listed(store, here, batch)) + b"\n" for batch in opened.batches)
    store.write(f"{here}/{BATCHES}", lines)
    return hashlib.sha256(lines).hexdigest()


def listed(store: Store, here: str, batch: Batch) -> dict[str, Any]:
    rows = ""
    if batch.rows:
        rows = hashlib.sha256(batch.rows).hexdigest()
        store.write(row_file(here, rows), batch.rows)
    files = [file.model_dump(mode="json") for file in batch.files]
    return {
        "files": files,
        "rows": rows,
        "addresses": batch.addresses,
        "signed": len(batch.signed),
        "facts": dict(batch.facts),
    }


def rewritten_list(here: str, sha256: str) -> str:
    """Of a delivery that lost some of its assets."""
    return f"{here}/batches/{sha256}.jsonl"


def list_ref(store: Store, here: str, sha256: str) -> refs.Ref:
    """The list of batches that has this sha256."""
    name = rewritten_list(here, sha256)
    return refs.Ref(store, name if store.exists(name) else f"{here}/{BATCHES}", sha256)


def manifest_ref(store: Store, delivery: str, rewritten: str) -> refs.Ref:
    """The corpus's copy of ``delivery.json``: as it was delivered, or as it was rewritten since."""
    here = folder(delivery)
    if rewritten:
        return refs.Ref(store, f"{here}/manifests/{rewritten}.json", rewritten)
    return refs.Ref(store, f"{here}/{MANIFEST}", delivery)


def row_file(here: str, sha256: str) -> str:
    return f"{here}/rows/{sha256}.jsonl"


def batches(store: Store, delivery: str, sha256: str) -> list[KeptBatch]:
    """The batches of the delivery whose ``delivery.json`` has that sha256; ``sha256`` is that of the list."""
    here = folder(delivery)
    lines = list_ref(store, here, sha256).read().splitlines()
    return [kept(store, here, json.loads(line)) for line in lines]


def kept(store: Store, here: str, line: dict[str, Any]) -> KeptBatch:
    rows = line["rows"]
    return KeptBatch(
        files=tuple(DeliveryFile.model_validate(file) for file in line["files"]),
        rows=refs.Ref(store, row_file(here, rows), rows) if rows else None,
        addresses=line["addresses"],
        signed=line["signed"],
        facts=line["facts"],
    )


def without(store: Store, folded: Folded, gone: Mapping[int, Collection[str]]) -> Folded:
    """The delivery, its batches and its list of files written anew without the rows and the files of some
    assets, by the number of the batch. Rows keep their numbers: what is gone is ``null``.
    """
    here = folder(folded.sha256)
    lines, paths = [], set()
    for number, line in enumerate(list_ref(store, here, folded.batches).read().splitlines()):
        told = json.loads(line)
        if number in gone:
            keys = {uid.removeprefix(f"{folded.provider}:") for uid in gone[number]}
            paths |= _drop(store, here, told, keys)
        lines.append(canonical(told) + b"\n")
    data = b"".join(lines)
    name = hashlib.sha256(data).hexdigest()
    store.write(rewritten_list(here, name), data)  # beside the other, which the newest version still names
    return replace(folded, batches=name, manifest=_listing_less(store, folded, paths))


def _drop(store: Store, here: str, line: dict[str, Any], keys: Collection[str]) -> set[str]:
    """Take the assets out of a batch; the files that were theirs."""
    paths = {file["path"] for file in line["files"] if own_id(file) in keys}
    if line["rows"]:
        left = []
        for row in refs.Ref(store, row_file(here, line["rows"]), line["rows"]).read().splitlines():
            is_gone = (found := json.loads(row)) is not None and asset_id(found["key"] or "-") in keys
            paths.update([found["image"]] if is_gone else [])
            left.append(b"null" if is_gone else row)
        rows = b"".join(one + b"\n" for one in left)
        line["rows"] = hashlib.sha256(rows).hexdigest()
        store.write(row_file(here, line["rows"]), rows)
    line["files"] = [file for file in line["files"] if file["path"] not in paths]
    for name, told in line["facts"].items():  # of a folder: the paths of its files
        if isinstance(told, list):
            line["facts"][name] = [one for one in told if one not in paths]
    return paths


def own_id(file: Mapping[str, Any]) -> str:
    """Of the asset whose file one would be in a folder; empty for what is no image and lies beside none, such
    as a tar, which may be called like an asset.
    """
    one = DeliveryFile.model_validate(file)
    return asset_id(stem(one)) if one.role in ROLES else ""


def _listing_less(store: Store, folded: Folded, paths: Collection[str]) -> str:
    """The sha256 of ``delivery.json`` without these files, which are written; as it is, if it lists none."""
    told = json.loads(manifest_ref(store, folded.sha256, folded.manifest).read())
    files = [file for file in told["files"] if file["path"] not in paths]
    if len(files) == len(told["files"]):
        return folded.manifest
    data = canonical({**told, "files": files})
    name = hashlib.sha256(data).hexdigest()
    store.write(manifest_ref(store, folded.sha256, name).name, data)
    return name
