"""Deliveries whose images lie at addresses."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.storage import Store
from pipeline.contract import Asset
from pipeline.deliveries import seal, table

from .conftest import AS_OF, license_


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """An asset, what it says of its image, and where that lies."""

    asset: Asset
    image: bytes
    uri: str = ""
    path: str = ""
    """Of an image that is delivered instead."""
    version: str = ""
    sha256: str | None = None
    """Stated; the asset's own by default."""
    facts: tuple[str, ...] = ("bytes", "mime", "width", "height")
    """What the row tells of the file besides."""


def at_addresses(
    store: Store,
    assets: list[Addressed],
    *,
    hosts: tuple[str, ...] = (),
    buckets: tuple[str, ...] = (),
    sequence: int = 0,
) -> str:
    """A table of addresses; the delivery's own address."""
    rows = []
    for one in assets:
        cells = table.cells(one.asset.model_dump(mode="json", by_alias=True))
        dropped = {f"file.{name}" for name in ("bytes", "mime", "width", "height") if name not in one.facts}
        kept = {name: cell for name, cell in cells.items() if name not in dropped}
        told = {"file.uri": one.uri, "file.s3_version_id": one.version, "path": one.path}
        digest = {} if one.sha256 is None else {"file.sha256": one.sha256}
        rows.append({**kept, **told, **digest})
    store.write("assets.csv", as_csv(rows))
    store.write("licenses.jsonl", (license_().model_dump_json() + "\n").encode())
    statement = seal.Statement(
        provider="acme",
        sequence=sequence,
        kind="delta" if sequence else "full",
        created_at=AS_OF,
        every_asset={},
        allowed_hosts=hosts,
        allowed_buckets=buckets,
    )
    seal.seal(store, "manifest", statement)
    return store.uri


def as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().replace("True", "true").replace("False", "false").encode()
