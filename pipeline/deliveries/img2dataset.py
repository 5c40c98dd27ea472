"""What img2dataset writes as WebDataset: ``00000.tar`` with the pictures, ``00000.parquet`` with every row.

Every row ends in a sample. One that was not downloaded has no member, and is a fault that names its status;
the member's key is the asset's id, and what is known of the picture is read from its bytes. Columns that the
user saved are kept under ``extra``, a ``license`` too: whatever it says is somebody's text, and no licence.
``KEY.json`` repeats the row and is not read; neither is ``exif``, which may be longer than a cell, nor a
column of lists or objects. ``00000_stats.json`` is listed as a readme.

Two surprising rules. The columns ``sha256``, ``width`` and ``height`` are not held against the picture: the
hash is of what was downloaded, before it was resized. And keys are numbers that every run counts from 0, so
that two runs of one provider need ``incremental_mode="extend"``: an id that comes again is a newer revision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from infra.guarded import parquet
from infra.guarded.refused import Refused
from pipeline.contract import Delivery, DeliveryFile
from pipeline.deliveries import agency, columns, listing, webdataset
from pipeline.deliveries.agency import Reading
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.columns import Cells
from pipeline.deliveries.listing import MANIFEST
from pipeline.deliveries.sample import (
    MIME_OF,
    Delivered,
    Fault,
    Sample,
    Wrong,
    described,
    faulty,
    file_facts,
    magic,
)

ROLES = ("shard", "manifest")
SUCCESS = "success"
HASHES = ("md5", "sha256", "sha512")
READ = frozenset({"key", "status", "error_message", "width", "height"})
LIMITS = parquet.Limits(max_bytes=32 * 1024 * 1024, unread=("exif",), others="leave_out")
"""10,000 rows, img2dataset's own number, take 2 MB without EXIF and may take ten times as much with it."""
MAX_CELLS = 32 * 1024 * 1024
"""Characters of a table, which is held as long as its tar is read: 2,700 for each of 10,000 rows."""


def batches(at: Delivered) -> list[Batch]:
    """A batch for each tar and its table."""
    found = []
    for shard, rows_file in pairs(at.delivery):
        listing.verified(at.store, rows_file)
        found.append(Batch(files=(shard, rows_file), samples=rows_file.samples))
    return found


def read(at: Delivered, batch: Batch) -> Iterator[Sample]:
    """Samples with a picture in the tar's order, then those without in the table's.

    Rows are held as lines of JSON: as objects, those of a table of 8 MiB took 440 MiB.

    Raises :class:`Refused` before the first of them, for a tar and a table that contradict each other.
    """
    shard, rows_file = batch.files
    rows = listed(at, rows_file)
    keys = webdataset.keys(at, shard)
    webdataset.check_samples(shard, len(keys), at.store.where(shard.path))
    for key in keys:
        if key not in rows or json.loads(rows[key]).get("status") != SUCCESS:
            told = (
                f"{rows_file.path} has no row of status {SUCCESS} for it; send the two that belong together"
            )
            raise Refused(at.store.where(shard.path), key, "row", told)
    for key, parts in webdataset.groups(at, shard):
        yield sample(key, parts, json.loads(rows.pop(key)), at.delivery)
    for key, line in rows.items():
        cells = json.loads(line)
        told = agency.plain(f"{cells.get('status')}: {cells.get('error_message', 'no picture in the tar')}")
        fault = Fault(code="no_image", message=f"{rows_file.path}: {key}: {told[:200]!a}")
        yield faulty(key, fault)


def sample(key: str, parts: Mapping[str, bytes], cells: Cells, delivery: Delivery) -> Sample:
    images = [content for name, content in parts.items() if name in MIME_OF]

    def record() -> dict[str, Any]:
        if len(images) != 1:
            told = f"{len(images)} images under one key, need exactly 1 ({', '.join(MIME_OF)})"
            raise Wrong("several_images" if images else "no_image", told)
        found = fields(key, cells, delivery)
        facts = file_facts(images[0], hashlib.sha256(images[0]).hexdigest(), {})
        return {"schema": "asset/1.0", "provider": delivery.provider, **found, "file": facts}

    # Without re-encoding, img2dataset gives every picture the same extension, whatever kind it is.
    kinds = {kind: name for name, kind in MIME_OF.items()}
    named = {kinds.get(magic(image) or "", "jpg"): image for image in images}
    caption = {"txt": parts["txt"]} if parts.get("txt") else {}
    return described(key, record, {**named, **caption}, delivery=delivery, name=key)


def fields(key: str, cells: Cells, delivery: Delivery) -> dict[str, Any]:
    row = Reading(cells)
    told = {
        "asset_id": key,
        "description": row.cell("caption"),
        "extra": {f"original_{name}": row.cell(name) for name in HASHES},
    }
    return row.record(told, delivery, dropped=READ)


def listed(at: Delivered, rows_file: DeliveryFile) -> dict[str, bytes]:
    """The table's rows by key, each as JSON."""
    where = at.store.where(rows_file.path)
    found: dict[str, bytes] = {}
    table = parquet.rows(listing.verified(at.store, rows_file), file=where, limits=LIMITS)
    for place, cells in columns.bounded(table, where, columns.Budget(MAX_CELLS)):
        key = cells.get("key")
        if not isinstance(key, str) or agency.asset_id(key) != key or key in found:
            raise Refused(where, place, "key", f"got {str(key)[:80]!a}; every row has a key of its own")
        found[key] = json.dumps(cells, ensure_ascii=False).encode()  # in the order of its columns
    webdataset.check_samples(rows_file, len(found), where)
    return found


def pairs(delivery: Delivery) -> list[tuple[DeliveryFile, DeliveryFile]]:
    """Tars and their tables, in the order of their names."""
    found: dict[str, dict[str, DeliveryFile]] = {role: {} for role in ROLES}
    for file in delivery.files:
        if file.role in ROLES:
            if PurePosixPath(file.path).stem in found[file.role]:
                told = "two runs count from the same number; give the second incremental_mode='extend'"
                raise Refused(MANIFEST, file.path, "duplicate", told)
            found[file.role][PurePosixPath(file.path).stem] = file
    shards, tables = found["shard"], found["manifest"]
    for name in sorted(shards.keys() ^ tables.keys()):
        lone = (shards | tables)[name]
        raise Refused(
            MANIFEST, lone.path, "pair", f"{name}.tar and {name}.parquet belong together; send both"
        )
    return [(shards[name], tables[name]) for name in sorted(shards)]
