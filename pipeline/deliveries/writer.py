"""Write a delivery in the WebDataset form: the same samples are the same bytes, whoever writes them and when.

Tars come first, then the licences, then ``delivery.json``: a folder without it is no delivery yet.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import webdataset

from infra.storage import Store
from pipeline.asset import Record
from pipeline.contract import Asset, Delivery, DeliveryFile, License
from pipeline.deliveries.manifest import LICENSES, MANIFEST

EXTENSION_OF = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
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


def write_delivery(
    store: Store,
    heading: Heading,
    *,
    licenses: Sequence[License],
    samples: Iterable[tuple[Asset, bytes]],
    shard_samples: int,
) -> Delivery:
    """Samples are (record, image bytes), in ascending order of asset id; one shard is in memory at a time."""
    files = [
        _put(store, f"shards/{heading.provider}-{number:06d}.tar", _tar(batch), samples=len(batch))
        for number, batch in enumerate(_batches(_ascending(samples), shard_samples))
    ]
    lines = "".join(_line(record) for record in sorted(licenses, key=lambda record: record.license_id))
    listed = [_put(store, LICENSES, lines.encode(), samples=None), *files]
    delivery = Delivery(
        schema="delivery/1.0",
        provider=heading.provider,
        delivery_id=heading.delivery_id,
        sequence=heading.sequence,
        kind=heading.kind,
        form="webdataset",
        created_at=heading.created_at,
        counts={"samples": sum(file.samples or 0 for file in files)},
        files=tuple(listed),
    )
    store.write(MANIFEST, _line(delivery).encode())
    return delivery


def _put(store: Store, path: str, data: bytes, *, samples: int | None) -> DeliveryFile:
    store.write(path, data)
    digest = hashlib.sha256(data).hexdigest()
    if samples is None:
        return DeliveryFile(path=path, sha256=digest, bytes=len(data), role="licenses")
    return DeliveryFile(path=path, sha256=digest, bytes=len(data), role="shard", samples=samples)


def _line(record: Record) -> str:
    """One line of JSON, fields in the contract's order."""
    return record.model_dump_json() + "\n"


def _ascending(samples: Iterable[tuple[Asset, bytes]]) -> Iterator[tuple[Asset, bytes]]:
    before = ""
    for asset, image in samples:
        if asset.asset_id <= before:
            fix = "sort the samples and give each id once"
            raise ValueError(f"asset_id {asset.asset_id!r} comes after {before!r}; {fix}")
        before = asset.asset_id
        yield asset, image


def _batches(samples: Iterator[tuple[Asset, bytes]], num: int) -> Iterator[list[tuple[Asset, bytes]]]:
    while batch := list(itertools.islice(samples, num)):
        yield batch


def _tar(batch: Iterable[tuple[Asset, bytes]]) -> bytes:
    sink = io.BytesIO()
    # PAX and not USTAR: an id of 128 characters and its extension do not fit a USTAR name.
    with webdataset.TarWriter(
        sink, mtime=0, user=OWNER, group=OWNER, encoder=False, format="PAX_FORMAT"
    ) as tar:
        for asset, image in batch:
            extension = EXTENSION_OF[asset.file.mime]
            text = asset.description.encode()
            tar.write(
                {"__key__": asset.asset_id, "json": _line(asset).encode(), "txt": text, extension: image}
            )
    return sink.getvalue()
