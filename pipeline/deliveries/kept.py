"""The corpus's copy of what a delivery was opened as: its records, its batches and their rows.

Every later decision is made, and every key computed, without the delivery's own tables. Rows are files named
by their sha256; the list of batches names them, and a version names the list. Of signed addresses only their
number is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from infra.artifact import canonical
from infra.storage import Store
from pipeline import refs
from pipeline.contract import DeliveryFile
from pipeline.deliveries.batch import Batch
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


def without(
    store: Store, delivery: str, sha256: str, gone: Mapping[int, Collection[str]], provider: str
) -> str:
    """Write the batches anew without the rows, and the files, of some assets, by the number of the batch; the
    sha256 of the new list. Rows keep their numbers: what is gone is ``null``.
    """
    here = folder(delivery)
    lines = []
    for number, line in enumerate(list_ref(store, here, sha256).read().splitlines()):
        told = json.loads(line)
        if number in gone:
            keys = {uid.removeprefix(f"{provider}:") for uid in gone[number]}
            told = _batch_without(store, here, told, keys)
        lines.append(canonical(told) + b"\n")
    data = b"".join(lines)
    name = hashlib.sha256(data).hexdigest()
    store.write(rewritten_list(here, name), data)  # beside the other, which the newest version still names
    return name


def _batch_without(store: Store, here: str, line: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    paths = set()
    if line["rows"]:
        left = []
        for row in refs.Ref(store, row_file(here, line["rows"]), line["rows"]).read().splitlines():
            is_gone = (found := json.loads(row)) is not None and asset_id(found["key"] or "-") in keys
            paths.update([found["image"]] if is_gone else [])
            left.append(b"null" if is_gone else row)
        rows = b"".join(one + b"\n" for one in left)
        line["rows"] = hashlib.sha256(rows).hexdigest()
        store.write(row_file(here, line["rows"]), rows)
    files = line["files"]
    line["files"] = [
        file
        for file in files
        if file["path"] not in paths and asset_id(PurePosixPath(file["path"]).stem) not in keys
    ]
    return line
