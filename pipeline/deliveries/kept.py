"""The corpus's copy of what a delivery was opened as: its records, its batches and their rows.

Every later decision is made, and every key computed, without the delivery's own tables. Rows are files named
by their sha256; the list of batches names them, and a version names the list. Of signed addresses only their
number is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.artifact import canonical
from infra.storage import Store
from pipeline import refs
from pipeline.contract import DeliveryFile
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.opened import OpenDelivery

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


def row_file(here: str, sha256: str) -> str:
    return f"{here}/rows/{sha256}.jsonl"


def batches(store: Store, delivery: str, sha256: str) -> list[KeptBatch]:
    """The batches of the delivery whose ``delivery.json`` has that sha256; ``sha256`` is that of the list."""
    here = folder(delivery)
    lines = refs.Ref(store, f"{here}/{BATCHES}", sha256).read().splitlines()
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
