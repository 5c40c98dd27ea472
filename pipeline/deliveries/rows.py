"""Forms of a delivery whose records are rows of tables: the contract's own columns, or an agency's.

A layout is a module with ``entries`` and ``record``; this is all that they have in common. The tables are
read when the delivery is opened: joined, checked and cut into batches of rows that are kept beside
the corpus, so that no task reads a table, and a task's key is that of its own rows.

The surprising rule: an image that no row names refuses the delivery, as a row whose image is missing does
not. Nobody would ever hear of the first; the second is told as the fault of one sample. So are the rows that
share an asset's id or an image, all of them, since nobody could say which counts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Protocol

from infra.guarded import tar
from infra.guarded.csv import Overlong
from infra.guarded.refused import Refused
from infra.redaction import bare_uri, disclosed
from pipeline import credentials
from pipeline.contract import Delivery, DeliveryFile
from pipeline.deliveries import columns, listing
from pipeline.deliveries.batch import ASSETS, Batch
from pipeline.deliveries.claims import Claims, Images, Names
from pipeline.deliveries.columns import Cells, Row
from pipeline.deliveries.fetched import Missed
from pipeline.deliveries.listing import MANIFEST
from pipeline.deliveries.sample import (
    MIME_OF,
    Delivered,
    Fault,
    Sample,
    Wrong,
    described,
    file_facts,
    magic,
)

ADDRESSED = 32
"""Rows of a batch whose images are fetched: what its worker holds at a time is a batch of answers."""
MAX_HELD = 4 * 1024 * 1024
"""Characters of a batch's rows, and at most one row more: 16,000 for each of 256."""
UNKNOWN = {"bytes": 1, "mime": "image/jpeg", "width": 1, "height": 1}
"""Stands for what an address that was not followed would have told, where rights alone are judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A delivered table and its rows, which are read when they are asked for."""

    path: str
    where: str
    rows: Iterator[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of a layout."""

    place: str
    """For messages: the table, and where in it."""
    key: str | None
    """The provider's id of the asset."""
    image: str = ""
    """A path, a file's name or its stem; empty where the row names none."""
    also: tuple[str, ...] = ()
    """Other names that the provider gives the same image."""
    uri: str = ""
    """An address outside the delivery, where the image lies."""
    cells: Cells
    fault: Fault | None = None
    """Why it is no asset, where that is known without its cells."""

    @property
    def names(self) -> Names:
        return (self.image, *self.also)


class Layout(Protocol):
    def entries(self, tables: Sequence[Table]) -> Iterator[Entry]:
        """Every row, in the tables' order, joined where several tables speak of one asset."""

    def record(self, cells: Cells, delivery: Delivery) -> dict[str, Any]:
        """What a row says, as fields of an asset record; raises :class:`Wrong`."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A layout as a form."""

    layout: Layout

    def batches(self, at: Delivered) -> Iterator[Batch]:
        """One is in memory at a time. What the tables lack is told at their end."""
        survey = surveyed(self.layout.entries(tables(at, "manifest")), Images.of(at.delivery))
        some: list[Claimed] = []
        used, held, unsure = set[str](), 0, False
        for claimed in judged(self.layout.entries(tables(at, "manifest")), survey):
            used.update(file.path for file in claimed.images)
            unsure = unsure or (claimed.entry.fault is not None and not claimed.images)
            some.append(claimed)
            held += columns.weight(claimed.entry.cells)
            most = ADDRESSED if any(one.entry.uri for one in some) else ASSETS
            if len(some) >= most or held > MAX_HELD:
                yield cut(some)
                some, held = [], 0
        if some:
            yield cut(some)
        for file in survey.claims.images.files:
            # A row that could not be read may have named it, and is told itself.
            if file.path not in used and not unsure:
                told = "no row names the image; name it, or leave it out"
                raise Refused(at.store.where(MANIFEST), file.path, "unused", told)

    def read(self, at: Delivered, batch: Batch) -> Iterator[Sample]:
        """First what was found at addresses, archive by archive, then the other rows in their order."""
        every = enumerate(json.loads(line) for line in batch.rows.splitlines())
        left = {number: row for number, row in every if row is not None}  # null: it was erased
        images = {file.path: file for file in batch.files}
        for number, image in batch.answers.images():
            if (row := left.pop(number, None)) is not None:
                yield self._sample(row, at.delivery, image, "")
        for number, row in left.items():
            file = images.get(row["image"])
            data = None if file is None else listing.verified(at.store, file)
            missed = batch.answers.missed.get(number)
            yield self._sample(row, at.delivery, data, "" if file is None else file.sha256, missed=missed)

    def _sample(
        self, row: Any, delivery: Delivery, image: bytes | None, sha256: str, *, missed: Missed | None = None
    ) -> Sample:
        """``None`` for an image that is not there, or that nobody went to see; an empty one was seen."""

        def record() -> Any:
            if row["fault"] is not None:
                raise Wrong(**row["fault"])
            fields = self.layout.record(row["cells"], delivery)
            if missed is not None:
                raise Wrong(missed.code, missed.message, failed=missed.again)
            if image is None and not row["uri"]:
                raise Wrong("no_image", f"{row['place']}: no delivered image has its name; deliver it")
            if image == b"":
                raise Wrong("no_image", f"{row['place']}: its image is of 0 bytes; send the image")
            found = {"schema": "asset/1.0", "provider": delivery.provider, **fields}
            claimed = fields.get("file", {})
            if not isinstance(claimed, dict):
                return found  # the contract says what is wrong with it
            facts = {**UNKNOWN, **claimed} if image is None else file_facts(image, sha256, claimed)
            return {**found, "file": facts}

        kind = next((ext for ext, mime in MIME_OF.items() if mime == magic(image or b"")), "jpg")
        told = PurePosixPath(row["image"]).suffix.removeprefix(".").lower() or kind
        key = row["key"] if is_proper(row["key"]) else row["place"]
        unseen = bool(row["uri"]) and image is None and missed is None
        parts = None if unseen else {told: image} if image else {}
        return described(key, record, parts, delivery=delivery, name=row["place"], sha256=sha256)


def tables(at: Delivered, role: str) -> list[Table]:
    """The delivery's tables in the order of their paths; each is checked against its sha256 when read."""
    found = sorted((file for file in at.delivery.files if file.role == role), key=lambda file: file.path)
    budget = columns.Budget()
    return [
        Table(path=file.path, where=at.store.where(file.path), rows=counted(at, file, budget))
        for file in found
    ]


def counted(at: Delivered, file: DeliveryFile, budget: columns.Budget) -> Iterator[Row]:
    """The rows of one table, as many as the delivery says."""
    where, num = at.store.where(file.path), 0
    for place, cells in columns.rows(listing.verified(at.store, file), where, budget):
        num += 1
        yield f"{file.path} {place}", cells
    if file.samples not in (None, num):
        fix = "send the whole table, or correct the number"
        raise Refused(where, "", "samples", f"it holds {num}, {MANIFEST} says {file.samples}; {fix}")


def is_proper(key: Any) -> bool:
    return isinstance(key, str) and tar.KEY.fullmatch(key) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What only all rows together tell of one."""

    twice: frozenset[str]
    """The ids of assets that have more than one row."""
    claims: Claims


def surveyed(entries: Iterator[Entry], images: Images) -> Survey:
    seen, twice = set[str](), set[str]()

    def named() -> Iterator[Names]:
        for entry in entries:
            if entry.key is not None and is_proper(entry.key):
                (twice if entry.key in seen else seen).add(entry.key)
            yield entry.names

    claims = Claims.of(images, named())
    return Survey(twice=frozenset(twice), claims=claims)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A row, and the delivered images that it may mean: at most one, unless it is a fault."""

    entry: Entry
    images: Sequence[DeliveryFile]


def judged(entries: Iterator[Entry], survey: Survey) -> Iterator[Claimed]:
    """Every row; one that is a fault keeps no cells, and no address that might be followed.

    Of the rows that share an id the first goes by it, and the others by their places.
    """
    given = set[str | None]()
    for entry in entries:
        images, why = survey.claims.meant(entry.names)
        fault = entry.fault or overlong(entry) or shared(entry, survey.twice)
        if fault is None and why:
            fault = Fault(code="ambiguous_image", message=f"{entry.place}: {why}")
        key = None if entry.key in given else entry.key
        if entry.key in survey.twice:
            given.add(entry.key)
        fit = entry if fault is None else replace(entry, key=key, uri="", cells={}, fault=fault)
        yield Claimed(entry=fit, images=images)


def overlong(entry: Entry) -> Fault | None:
    """The fault of a row with a cell, its own or that of a row joined to it, which is longer than is read."""
    inner = (row for cell in entry.cells.values() if isinstance(cell, list) for row in cell)
    for cells in (entry.cells, *(row for row in inner if isinstance(row, Mapping))):
        for name, cell in cells.items():
            if isinstance(cell, Overlong):
                told = f"{entry.place}: {name}: a cell of {cell.size}, at most {cell.most} are read; cut it"
                return Fault(code="invalid_record", message=told)
    return None


def shared(entry: Entry, twice: Collection[str]) -> Fault | None:
    if entry.key not in twice:
        return None
    told = f"{entry.place}: asset {entry.key!a} has several rows, and nobody can say which counts; keep one"
    return Fault(code="duplicate", message=told)


def cut(rows: Sequence[Claimed]) -> Batch:
    uris = {number: row.entry.uri for number, row in enumerate(rows) if row.entry.uri}
    files = {file.path: file for row in rows if len(row.images) == 1 for file in row.images}
    lines = (json.dumps(as_kept(row), ensure_ascii=False, separators=(",", ":")) for row in rows)
    return Batch(
        files=tuple(files.values()),
        rows="".join(f"{line}\n" for line in lines).encode(),
        addresses=len(uris),
        signed={number: uri for number, uri in uris.items() if bare_uri(uri) != uri},
        samples=len(rows),
    )


def as_kept(row: Claimed) -> dict[str, Any]:
    """The row beside the corpus: without signatures, its cells in the order of their columns."""
    entry, fault = row.entry, row.entry.fault
    return {
        "place": entry.place,
        "key": disclosed(entry.key),
        "image": row.images[0].path if len(row.images) == 1 else "",
        "uri": bare_uri(entry.uri),
        "cells": credentials.kept_cells(entry.cells, entry.uri),
        "fault": None if fault is None else {"code": fault.code, "message": disclosed(fault.message)},
    }
