"""Write a delivery, in any form: the same samples are the same bytes, whoever writes them and when.

Samples come first, then the licences, then ``delivery.json``: a folder without it is no delivery yet. The
surprising rule: records are not checked here. A source has pictures without a licence too; they are delivered
as they are, and it is the door that refuses them, with a reason.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from infra.storage import Store
from pipeline.asset import Record
from pipeline.contract import Asset, Delivery, DeliveryFile, License
from pipeline.deliveries import table
from pipeline.deliveries.listing import LICENSES, MANIFEST

EXTENSION_OF = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
Role = Literal["shard", "manifest", "image", "sidecar", "licenses"]
OWNER = "pardalis"
"""Of every member, instead of whoever ran the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What ``delivery.json`` says besides its files."""

    provider: str
    delivery_id: str
    sequence: int
    kind: Literal["full", "delta", "correction"]
    created_at: datetime
    """UTC; passed in, since a clock would make every run's bytes differ."""


Document = Mapping[str, Any]
"""A record as JSON has it, perhaps wrong. ``asset_id``, ``description`` and ``file.mime`` are there: they
name its files, and are its caption."""
Samples = Iterable[tuple[Asset | Document, bytes]]
"""(record, image bytes), in ascending order of asset id."""


def write_delivery(
    store: Store,
    heading: Heading,
    *,
    licenses: Sequence[License],
    samples: Samples,
    shard_samples: int,
) -> Delivery:
    """The WebDataset form; one shard is in memory at a time."""
    files = [
        _put(store, f"shards/{heading.provider}-{number:06d}.tar", _tar(batch), "shard", samples=len(batch))
        for number, batch in enumerate(_batches(_ascending(samples), shard_samples))
    ]
    num_samples = sum(file.samples or 0 for file in files)
    return _close(store, heading, licenses, files=files, form="webdataset", num_samples=num_samples)


def write_folder(
    store: Store, heading: Heading, *, licenses: Sequence[License], samples: Samples
) -> Delivery:
    """The folder form: ``images/ID.jpg``, and its record in ``images/ID.json``; one image is in memory."""
    files: list[DeliveryFile] = []
    for document, image in _ascending(samples):
        files.append(_put(store, _image_path(document), image, "image"))
        path = f"images/{document['asset_id']}.json"
        files.append(_put(store, path, _document(document), "sidecar"))
    return _close(store, heading, licenses, files=files, form="folder", num_samples=len(files) // 2)


def write_table(
    store: Store,
    heading: Heading,
    *,
    licenses: Sequence[License],
    samples: Samples,
    name: Literal["assets.csv", "assets.parquet"],
) -> Delivery:
    """The manifest form: ``images/ID.jpg``, and every record as a row of one table, which is in memory."""
    files, rows = [], []
    for document, image in _ascending(samples):
        path = _image_path(document)
        files.append(_put(store, path, image, "image"))
        rows.append({table.PATH: path, **table.cells(document)})
    data = _csv(rows) if name == "assets.csv" else _parquet(rows)
    files.append(_put(store, name, data, "manifest", samples=len(rows)))
    return _close(store, heading, licenses, files=files, form="manifest", num_samples=len(rows))


def _close(  # what the three forms have in common
    store: Store,
    heading: Heading,
    licenses: Sequence[License],
    *,
    files: Sequence[DeliveryFile],
    form: Literal["webdataset", "manifest", "folder"],
    num_samples: int,
) -> Delivery:
    """Write the licences, and ``delivery.json`` last: a folder without it is no delivery yet."""
    lines = "".join(_line(record) for record in sorted(licenses, key=lambda record: record.license_id))
    delivery = Delivery(
        schema="delivery/1.0",
        provider=heading.provider,
        delivery_id=heading.delivery_id,
        sequence=heading.sequence,
        kind=heading.kind,
        form=form,
        created_at=heading.created_at,
        counts={"samples": num_samples},
        files=(_put(store, LICENSES, lines.encode(), "licenses"), *files),
    )
    store.write(MANIFEST, _line(delivery).encode())
    return delivery


def _put(store: Store, path: str, data: bytes, role: Role, *, samples: int | None = None) -> DeliveryFile:
    store.write(path, data)
    digest = hashlib.sha256(data).hexdigest()
    # Not samples=None: in the contract null is no value, and a field is left out.
    counted = {} if samples is None else {"samples": samples}
    return DeliveryFile(path=path, sha256=digest, bytes=len(data), role=role, **counted)


def _image_path(document: Document) -> str:
    return f"images/{document['asset_id']}.{EXTENSION_OF[document['file']['mime']]}"


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every column of any row, in the order in which they first come."""
    return list(dict.fromkeys(itertools.chain.from_iterable(rows))) or [table.PATH]


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, _columns(rows), restval="")
    writer.writeheader()
    writer.writerows(
        {name: str(cell).lower() if isinstance(cell, bool) else cell for name, cell in row.items()}
        for row in rows
    )
    return sink.getvalue().encode()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    columns = {name: pa.array([row.get(name) for row in rows]) for name in _columns(rows)}
    sink = io.BytesIO()
    # Without the Arrow schema, which no reader of ours looks at.
    pq.write_table(pa.table(columns), sink, compression="snappy", store_schema=False)
    return sink.getvalue()


def _line(record: Record) -> str:
    """One line of JSON, fields in the contract's order."""
    return record.model_dump_json() + "\n"


def _document(document: Document) -> bytes:
    """One line of JSON, as pydantic writes it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _ascending(samples: Samples) -> Iterator[tuple[Document, bytes]]:
    before = ""
    for record, image in samples:
        document = record.model_dump(mode="json", by_alias=True) if isinstance(record, Asset) else record
        asset_id: str = document["asset_id"]
        if asset_id <= before:
            fix = "sort the samples and give each id once"
            raise ValueError(f"asset_id {asset_id!r} comes after {before!r}; {fix}")
        before = asset_id
        yield document, image


def _batches(samples: Iterator[tuple[Document, bytes]], num: int) -> Iterator[list[tuple[Document, bytes]]]:
    while batch := list(itertools.islice(samples, num)):
        yield batch


def _tar(batch: Iterable[tuple[Document, bytes]]) -> bytes:
    sink = io.BytesIO()
    # PAX and not USTAR: an id of 128 characters and its extension do not fit a USTAR name.
    with webdataset.TarWriter(
        sink, mtime=0, user=OWNER, group=OWNER, encoder=False, format="PAX_FORMAT"
    ) as tar:
        for document, image in batch:
            extension = EXTENSION_OF[document["file"]["mime"]]
            members = {"json": _document(document), "txt": document["description"].encode(), extension: image}
            tar.write({"__key__": document["asset_id"], **members})
    return sink.getvalue()
