"""Forms of a delivery whose records are rows of tables: the contract's own columns, or an agency's.

A layout is a module with ``entries`` and ``record``; this is all that they have in common. The tables are
read when the delivery is opened: joined, checked and cut into batches of rows that are kept beside
the corpus, so that no task reads a table, and a task's key is that of its own rows.

The surprising rule: an image that no row names refuses the delivery, as a row whose image is missing does
not. Nobody would ever hear of the first; the second is told as the fault of one sample. So are the rows that
share an asset's id, all of them, since nobody could say which counts.
"""

from __future__ import annotations

import json
import unicodedata
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
from pipeline.deliveries import columns, manifest
from pipeline.deliveries.batch import ASSETS, Batch
from pipeline.deliveries.columns import Cells, Row
from pipeline.deliveries.fetched import Missed
from pipeline.deliveries.manifest import MANIFEST
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
        images, used = Images.of(at.delivery), set[str]()
        some: list[tuple[Entry, DeliveryFile | None]] = []
        held = 0
        twice = repeated(self.layout.entries(tables(at, "manifest")))
        for entry in judged(self.layout.entries(tables(at, "manifest")), twice):
            file = images.find(entry, at)
            used.update([file.path] if file else [])
            some.append((entry, file))
            held += columns.weight(entry.cells)
            most = ADDRESSED if any(entry.uri for entry, _ in some) else ASSETS
            if len(some) >= most or held > MAX_HELD:
                yield cut(some)
                some, held = [], 0
        if some:
            yield cut(some)
        for file in images.files:
            if file.path not in used:
                told = "no row names the image; name it, or leave it out"
                raise Refused(at.store.where(MANIFEST), file.path, "unused", told)

    def read(self, at: Delivered, batch: Batch) -> Iterator[Sample]:
        """First what was found at addresses, archive by archive, then the other rows in their order."""
        left = dict(enumerate(json.loads(line) for line in batch.rows.splitlines()))
        images = {file.path: file for file in batch.files}
        for number, image in batch.answers.images():
            yield self._sample(left.pop(number), at.delivery, image, "")
        for number, row in left.items():
            file = images.get(row["image"])
            data = None if file is None else manifest.verified(at.store, file)
            missed = batch.answers.missed.get(number)
            yield self._sample(row, at.delivery, data, "" if file is None else file.sha256, missed=missed)

    def _sample(
        self, row: Any, delivery: Delivery, image: bytes | None, sha256: str, *, missed: Missed | None = None
    ) -> Sample:
        """``None`` for an image that is not there, or that nobody went to see; an empty one was seen."""

        def record() -> Any:
            if "fault" in row:
                raise Wrong(**row["fault"])
            fields = self.layout.record(row["cells"], delivery)
            if missed is not None:
                raise Wrong(missed.code, missed.message, failed=missed.again)
            if image is None and not row["uri"]:
                raise Wrong("no_image", f"{row['place']}: no delivered image has its name; deliver it")
            if image == b"":
                raise Wrong("no_image", f"{row['place']}: its image is of 0 bytes; send the image")
            claimed = fields.get("file", {})
            facts = {**UNKNOWN, **claimed} if image is None else file_facts(image, sha256, claimed)
            return {"schema": "asset/1.0", "provider": delivery.provider, **fields, "file": facts}

        kind = next((ext for ext, mime in MIME_OF.items() if mime == magic(image or b"")), "jpg")
        told = PurePosixPath(row["image"]).suffix.removeprefix(".").lower() or kind
        key = row["key"] if is_proper(row["key"]) else row["place"]
        unseen = bool(row["uri"]) and image is None and missed is None
        parts = None if unseen else {told: image} if image else {}
        return described(key, record, parts, delivery=delivery, name=row["place"])


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
    for place, cells in columns.rows(manifest.verified(at.store, file), where, budget):
        num += 1
        yield f"{file.path} {place}", cells
    if file.samples not in (None, num):
        fix = "send the whole table, or correct the number"
        raise Refused(where, "", "samples", f"it holds {num}, {MANIFEST} says {file.samples}; {fix}")


def is_proper(key: Any) -> bool:
    return isinstance(key, str) and tar.KEY.fullmatch(key) is not None


def repeated(entries: Iterator[Entry]) -> set[str]:
    """The ids of assets that have more than one row."""
    seen, twice = set[str](), set[str]()
    for entry in entries:
        if entry.key is not None and is_proper(entry.key):
            (twice if entry.key in seen else seen).add(entry.key)
    return twice


def judged(entries: Iterator[Entry], twice: Collection[str]) -> Iterator[Entry]:
    """Every row; one that is a fault has an image at most, so that no address of it is kept or followed.

    Of the rows that share an id the first goes by it, and the others by their places.
    """
    given = set[str | None]()
    for entry in entries:
        fault = entry.fault or overlong(entry) or shared(entry, twice)
        key = None if entry.key in given else entry.key
        if entry.key in twice:
            given.add(entry.key)
        yield entry if fault is None else replace(entry, key=key, uri="", cells={}, fault=fault)


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


def as_kept(fault: Fault | None) -> dict[str, Any]:
    """Nothing for a row without a fault, so that its key is what it was before rows could have one."""
    return {} if fault is None else {"fault": {"code": fault.code, "message": disclosed(fault.message)}}


def cut(named: Sequence[tuple[Entry, DeliveryFile | None]]) -> Batch:
    uris = {number: entry.uri for number, (entry, _) in enumerate(named) if entry.uri}
    # Cells in the order of their columns, as a record of the other forms keeps its fields.
    lines = [
        json.dumps(
            {
                "place": entry.place,
                "key": disclosed(entry.key),
                "image": "" if file is None else file.path,
                "uri": bare_uri(entry.uri),
                "cells": credentials.kept_cells(entry.cells, entry.uri),
                **as_kept(entry.fault),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for entry, file in named
    ]
    files = {file.path: file for _, file in named if file is not None}
    return Batch(
        files=tuple(files.values()),
        rows="".join(f"{line}\n" for line in lines).encode(),
        addresses=len(uris),
        signed={number: uri for number, uri in uris.items() if bare_uri(uri) != uri},
        samples=len(named),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The delivered images, by what a row may call them."""

    files: tuple[DeliveryFile, ...]
    by_path: Mapping[str, Sequence[DeliveryFile]]
    by_name: Mapping[str, Sequence[DeliveryFile]]
    """By name too, and by stem."""
    by_folded: Mapping[str, Sequence[DeliveryFile]]
    """By any of them, whatever its case: who exports a table from Windows never sees that it differs."""

    @staticmethod
    def of(delivery: Delivery) -> Images:
        files = tuple(file for file in delivery.files if file.role == "image")
        by_path: dict[str, list[DeliveryFile]] = {}
        by_name: dict[str, list[DeliveryFile]] = {}
        by_folded: dict[str, list[DeliveryFile]] = {}
        for file in files:
            path = unicodedata.normalize("NFC", file.path)  # as cells are
            by_path.setdefault(path, []).append(file)
            for name in dict.fromkeys((path, PurePosixPath(path).name, PurePosixPath(path).stem)):
                by_name.setdefault(name, []).append(file)
                by_folded.setdefault(name.casefold(), []).append(file)
        return Images(files=files, by_path=by_path, by_name=by_name, by_folded=by_folded)

    def find(self, entry: Entry, at: Delivered) -> DeliveryFile | None:
        """The image that is meant: by its whole path, else by its name, else by it in another case."""
        names = list(filter(None, (entry.image, *entry.also)))
        found = (
            named(self.by_path, names)
            or named(self.by_name, names)
            or named(self.by_folded, [name.casefold() for name in names])
        )
        if len(found) > 1:
            told = f"{entry.image[:80]!a} is {found[0].path} or {found[1].path}; name the path"
            raise Refused(at.store.uri, entry.place, "ambiguous", told)
        return found[0] if found else None


def named(known: Mapping[str, Sequence[DeliveryFile]], names: Sequence[str]) -> list[DeliveryFile]:
    """The files of these names, each once."""
    return list({file.path: file for name in names for file in known.get(name, ())}.values())
