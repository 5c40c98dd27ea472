"""The delivery of every form that is mutated, small, and without what would take a tool to write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from pipeline.deliveries import table
from tests.fuzz import documents
from tests.hostile import made
from tests.pipeline import agencies
from tests.pipeline.agencies import Parcel

IMAGES = {"images/m1.jpg": agencies.encoded(1), "images/m2.jpg": agencies.encoded(2)}
ADDRESS = "https://images.example/{}.jpg?sig=fe5f"
"""Of no host that any delivery allows: nothing here asks the network."""


def row(name: str, image: bytes) -> dict[str, Any]:
    """The cells of a whole record."""
    return table.cells(made.record(name, image, "jpg") | {"extra": {"note": "a.b"}})


def little(name: str) -> dict[str, Any]:
    """Cells that leave most to the delivery: where another column is added, none holds its field."""
    return {"asset_id": name, "description": "A wall"}


def delivered_rows() -> list[dict[str, Any]]:
    first, second = IMAGES
    return [{**row("m1", IMAGES[first]), "path": first}, {**little("m2"), "path": second}]


def addressed_rows(*names: str) -> list[dict[str, Any]]:
    """One as the contract has it, and one in img2dataset's words."""
    first, second = names
    image, other = IMAGES.values()
    whole = {**row(first, image), "file.uri": ADDRESS.format(first)}
    digest = hashlib.sha256(other).hexdigest()
    return [whole, {**little(second), "url": ADDRESS.format(second), "sha256": digest}]


def spelled(rows: list[dict[str, Any]]) -> bytes:
    return agencies.table(*rows).replace(b"True", b"true").replace(b"False", b"false")


def column_wise(rows: list[dict[str, Any]]) -> dict[str, pa.Array]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: documents.array([row.get(name) for row in rows]) for name in names}


def manifest_csv() -> Parcel:
    files = {**IMAGES, "table.csv": spelled(delivered_rows())}
    return Parcel(form="manifest", files=files, every_asset=agencies.JUDGED)


def manifest_addresses() -> Parcel:
    files = {"table.csv": spelled(addressed_rows("m1", "m2"))}
    return Parcel(form="manifest", files=files, every_asset=agencies.JUDGED)


def manifest_parquet() -> Parcel:
    files = {**IMAGES, "table.parquet": documents.parquet(column_wise(delivered_rows()))}
    return Parcel(form="manifest", files=files, every_asset=agencies.JUDGED)


def downloaded_rows() -> list[dict[str, Any]]:
    """As img2dataset writes them; the last was not downloaded."""
    cells = {"url": "https://a.example/x.jpg", "caption": "A square", "license": "CC0", "exif": "{}"}
    sized = {"width": 4, "height": 3, "original_width": 16, "original_height": 12}
    good = [{"key": f"00000{n}", "status": "success", **cells, **sized, "sha256": "0" * 64} for n in range(2)]
    missing = {"key": "000002", "status": "failed_to_download", "error_message": "<urlopen error>", **cells}
    return [*good, missing]


def img2dataset() -> Parcel:
    members: dict[str, bytes] = {}
    for cells, image in zip(downloaded_rows(), IMAGES.values(), strict=False):
        told = {"jpg": image, "txt": cells["caption"].encode(), "json": json.dumps(cells).encode()}
        members |= {f"{cells['key']}.{extension}": content for extension, content in told.items()}
    files = {
        "00000.tar": made.tarred(members),
        "00000.parquet": documents.parquet(column_wise(downloaded_rows())),
    }
    return Parcel(form="img2dataset", files=files, every_asset=agencies.JUDGED)


PARCELS: Mapping[str, Callable[[], Parcel]] = {
    **agencies.BY_HAND,
    "folder": agencies.folder,
    "manifest_csv": manifest_csv,
    "manifest_addresses": manifest_addresses,
    "manifest_parquet": manifest_parquet,
    "img2dataset": img2dataset,
}
