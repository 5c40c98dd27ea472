"""The forms of a delivery, from the bytes of one table, page or sidecar to samples, and the Parquet reader.

The surprising rule: the reader of Parquet dies by design, of an abort in Arrow's C++ or for want of memory,
and its caller calls that a refusal. So each input is read in a process that may die. One that died of a
signal, or of memory, was refused; one that Python ended with any other exception is a fault of the reader.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from infra.guarded import parquet
from infra.guarded.csv import NAME
from infra.guarded.isolated import Died, Isolated, Limits
from infra.guarded.refused import Refused
from infra.storage import LocalStore, Store
from pipeline import credentials
from pipeline.contract import Asset, Delivery
from pipeline.deliveries import columns, fetched, forms, img2dataset
from pipeline.deliveries import table as own
from pipeline.deliveries.fetched import Answers, Missed
from pipeline.deliveries.rows import Entry, Rows, Table
from pipeline.deliveries.sample import Delivered, Fault, Sample
from tests.fuzz import documents, parcels
from tests.fuzz.target import MOST_COST, Target
from tests.pipeline.agencies import Parcel

MUTATED = ("manifest", "feed", "sidecar")
"""Roles of the files that say something of images."""
UNDER_ONE = Limits(memory_bytes=parquet.MEMORY_BYTES, cpu_s=8, wall_s=9, deaths=1)
SLOW = ("SIGXCPU", "no answer in time")


@dataclass(frozen=True, slots=True)
class Held(LocalStore):
    """Files in memory, since to write one takes longer than to read what it says."""

    files: Mapping[str, bytes]

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        return self.files[name][:at_most]


def delivered(parcel: Parcel) -> Delivered:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(folder)
        parcel.write(store)
        told = json.loads(store.read("delivery.json"))
    return Delivered(store=Held("/fuzz", parcel.files), delivery=Delivery.model_validate(told))


def with_file(at: Delivered, parcel: Parcel, path: str, raw: bytes) -> Delivered:
    """The same delivery, with one file changed and listed truly."""
    facts = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    files = [file.model_copy(update=facts) if file.path == path else file for file in at.delivery.files]
    delivery = at.delivery.model_copy(update={"files": tuple(files)})
    return Delivered(store=Held("/fuzz", {**parcel.files, path: raw}), delivery=delivery)


def judged(samples: Iterator[Sample]) -> int:
    """Each is an asset as the corpus keeps it, or a fault that can be printed."""
    num = 0
    for num, sample in enumerate(samples, start=1):  # noqa: B007  # how many is the answer
        if isinstance(sample.asset, Asset):
            credentials.kept(sample.asset).model_dump_json(by_alias=True)
        else:
            assert isinstance(sample.asset, Fault)
            json.dumps([sample.key, sample.asset.message]).encode()
    return num


def read(form: forms.Form, at: Delivered) -> int:
    """The samples of a delivery, and where images lie at addresses, also of what could have come of them."""
    num = 0
    for batch in form.batches(at):
        num += judged(form.read(at, batch))
        if batch.addresses:
            num += judged(form.read(at, replace(batch, answers=answers(batch.rows))))
    return num


def answers(rows: bytes) -> Answers:
    """Of the rows that have an address, the first brings an image and the others bring none."""
    asked = [number for number, line in enumerate(rows.splitlines()) if json.loads(line)["uri"]]
    images = {asked[0]: parcels.IMAGES["images/m1.jpg"]}
    missed = {number: Missed(code="unreachable", message="gone", again=True) for number in asked[1:]}
    archive = fetched.files(images, missed)[fetched.IMAGES]
    return Answers(archives=(lambda: archive,), missed=missed)


def whole(at: Delivered, parcel: Parcel, path: str, raw: bytes) -> int:
    """The samples of a delivery of which one file is these bytes."""
    here = with_file(at, parcel, path, raw)
    forms.revocations(here)
    return read(forms.of(here.delivery), here)


@dataclass(frozen=True, slots=True)
class Typed:
    """The contract's own columns, whose cells come typed as Parquet's do, and not from a delivered file."""

    cells: Sequence[dict[str, Any]]

    def entries(self, tables: Sequence[Table]) -> Iterator[Entry]:  # noqa: ARG002  # not of a file
        rows = [(f"row {number}", cells) for number, cells in enumerate(self.cells, start=1)]
        where = "table.parquet"
        bounded = columns.bounded(rows, where, columns.Budget())
        return own.entries([Table(path=where, where=where, rows=bounded)])

    def record(self, cells: columns.Cells, delivery: Delivery) -> dict[str, Any]:
        return own.record(cells, delivery)


def lines(raw: bytes) -> list[dict[str, Any]]:
    """Of cells; what is none, or could not come out of a table, is refused."""
    try:
        found = [json.loads(line) for line in raw.splitlines()]
    except (ValueError, RecursionError):
        raise Refused("cells", "", "json", "no lines of JSON") from None
    flat = all(isinstance(row, dict) and all(map(is_cell, row.values())) for row in found)
    if not flat or not all(NAME.fullmatch(name) for row in found for name in row):
        raise Refused("cells", "", "cells", "no cells of a table")
    return [{name: cell for name, cell in row.items() if cell not in (None, "")} for row in found]


def is_cell(cell: Any) -> bool:
    """Arrow's numbers have 64 bits, and its texts are UTF-8."""
    if isinstance(cell, str):
        return cell.encode("utf-8", "replace").decode() == cell
    return not isinstance(cell, list | dict) and (not isinstance(cell, int) or -(2**63) <= cell < 2**64)


def typed_rows(at: Delivered, raw: bytes) -> int:
    return read(Rows(Typed(lines(raw))), at)


def downloaded(at: Delivered, parts: Mapping[str, bytes], raw: bytes) -> int:
    """What img2dataset says of a picture, a row after the other."""
    found = (img2dataset.sample("000000", parts, cells, at.delivery) for cells in lines(raw))
    return judged(found)


@functools.cache
def reader(limits: parquet.Limits) -> Isolated:
    return Isolated(function="tests.fuzz.arrow:read", settings=asdict(limits), limits=UNDER_ONE)


def parquet_rows(limits: parquet.Limits, raw: bytes) -> int:
    try:
        told, _ = reader(limits).call(raw)
    except Died as died:
        if died.how in SLOW:
            raise AssertionError(f"the reader is too slow: {died.how}") from None
        if died.how != "MemoryError" and not died.how.startswith("SIG"):
            raise AssertionError(f"the reader of Parquet ended with {died.how}") from None
        raise Refused("fuzz.parquet", "", "died", died.how) from None
    if "refused" in told:
        raise Refused("fuzz.parquet", "", told["refused"], "")
    num: int = told["rows"]
    return num


def by_bytes() -> Iterator[Target]:
    """One for each file, but for Parquet, that says something of the images of a delivery."""
    for name, make in parcels.PARCELS.items():
        parcel = make()
        paths = [path for path in parcel.files if parcel.role(path) in MUTATED]
        at = delivered(parcel)
        for path in paths:
            extension = columns.extension(path)
            if extension == "parquet":
                continue
            yield Target(
                name=f"{name}/{path}",
                read=functools.partial(whole, at, parcel, path),
                refusals=(Refused,),
                seeds=[parcel.files[path]],
                change=documents.CHANGES.get(extension),
                cost=8,
            )


def by_cells() -> Iterator[Target]:
    """What comes out of a table that is Parquet, in this process."""
    manifest, run = delivered(parcels.manifest_csv()), delivered(parcels.img2dataset())
    parts = {"jpg": parcels.IMAGES["images/m1.jpg"], "txt": b"A square"}
    rows = [*parcels.delivered_rows(), *parcels.addressed_rows("m3", "m4")]
    readers = {
        "manifest/cells": (functools.partial(typed_rows, manifest), rows),
        "img2dataset/cells": (functools.partial(downloaded, run, parts), parcels.downloaded_rows()),
    }
    for name, (reading, cells) in readers.items():
        seeds = [b"\n".join(json.dumps(row).encode() for row in cells)]
        change = documents.typed
        yield Target(name=name, read=reading, refusals=(Refused,), seeds=seeds, change=change, cost=8)


def by_parquet() -> Iterator[Target]:
    """The bytes of such a table, in another process."""
    tables = [make().files for make in (parcels.manifest_parquet, parcels.img2dataset)]
    seeds = [raw for files in tables for path, raw in files.items() if path.endswith(".parquet")]
    for name, limits in {"parquet": parquet.TABLE, "img2dataset/parquet": img2dataset.LIMITS}.items():
        yield Target(
            name=name,
            read=functools.partial(parquet_rows, limits),
            refusals=(Refused,),
            seeds=seeds,
            change=documents.parquet_table,
            cost=MOST_COST,
        )


def targets() -> Iterator[Target]:
    yield from by_bytes()
    yield from by_cells()
    yield from by_parquet()
