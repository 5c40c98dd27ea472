"""Forms of a delivery whose records are rows of tables: the contract's own columns, or an agency's.

A layout is a module with ``entries`` and ``record``; this is all that they have in common. The tables are
read when the delivery is opened: joined, checked and cut into batches of rows that are kept beside
the corpus, so that no task reads a table, and a task's key is that of its own rows.

The surprising rule: an image that no row names refuses the delivery, as a row whose image is missing does
not. Nobody would ever hear of the first; the second is told as the fault of one sample.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

from infra.guarded import tar
from infra.guarded.refused import Refused
from infra.redaction import disclosed
from pipeline import credentials
from pipeline.contract import Delivery, DeliveryFile
from pipeline.deliveries import columns, manifest
from pipeline.deliveries.batch import ASSETS, Batch
from pipeline.deliveries.columns import Cells, Row
from pipeline.deliveries.fetched import Missed
from pipeline.deliveries.manifest import MANIFEST
from pipeline.deliveries.sample import MIME_OF, Delivered, Sample, Wrong, described, file_facts, magic

ADDRESSED = 32
"""Rows of a batch whose images are fetched: what its worker holds at a time is a batch of answers."""
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
        for entry in once(self.layout.entries(tables(at, "manifest")), at):
            file = images.find(entry, at)
            used.update([file.path] if file else [])
            some.append((entry, file))
            if len(some) >= (ADDRESSED if any(entry.uri for entry, _ in some) else ASSETS):
                yield cut(some)
                some = []
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
            data = b"" if file is None else manifest.verified(at.store, file)
            missed = batch.answers.missed.get(number)
            yield self._sample(row, at.delivery, data, "" if file is None else file.sha256, missed=missed)

    def _sample(
        self, row: Any, delivery: Delivery, image: bytes, sha256: str, *, missed: Missed | None = None
    ) -> Sample:
        def record() -> Any:
            fields = self.layout.record(row["cells"], delivery)
            if missed is not None:
                raise Wrong(missed.code, missed.message, failed=missed.again)
            if not image and not row["uri"]:
                raise Wrong("no_image", f"{row['place']}: no delivered image has its name; deliver it")
            claimed = fields.get("file", {})
            facts = file_facts(image, sha256, claimed) if image else {**UNKNOWN, **claimed}
            return {"schema": "asset/1.0", "provider": delivery.provider, **fields, "file": facts}

        proper = isinstance(row["key"], str) and tar.KEY.fullmatch(row["key"])
        kind = next((ext for ext, mime in MIME_OF.items() if mime == magic(image)), "jpg")
        told = PurePosixPath(row["image"]).suffix.removeprefix(".").lower() or kind
        key = row["key"] if proper else row["place"]
        unseen = bool(row["uri"]) and not image and missed is None
        parts = None if unseen else {told: image} if image else {}
        return described(key, record, parts, delivery=delivery, name=row["place"])


def tables(at: Delivered, role: str) -> list[Table]:
    """The delivery's tables in the order of their paths; each is checked against its sha256 when read."""
    found = sorted((file for file in at.delivery.files if file.role == role), key=lambda file: file.path)
    return [Table(path=file.path, where=at.store.where(file.path), rows=counted(at, file)) for file in found]


def counted(at: Delivered, file: DeliveryFile) -> Iterator[Row]:
    """The rows of one table, as many as the delivery says."""
    where, num = at.store.where(file.path), 0
    for place, cells in columns.rows(manifest.verified(at.store, file), where):
        num += 1
        yield f"{file.path} {place}", cells
    if file.samples not in (None, num):
        fix = "send the whole table, or correct the number"
        raise Refused(where, "", "samples", f"it holds {num}, {MANIFEST} says {file.samples}; {fix}")


def once(entries: Iterator[Entry], at: Delivered) -> Iterator[Entry]:
    """The same. No asset may have two rows: nobody could say which of them counts."""
    seen: set[str] = set()
    for entry in entries:
        if entry.key is not None and entry.key in seen:
            told = f"asset {entry.key[:80]!a} has two rows; keep one"
            raise Refused(at.store.uri, entry.place, "duplicate", told)
        seen.add(entry.key or "")
        yield entry


def cut(named: Sequence[tuple[Entry, DeliveryFile | None]]) -> Batch:
    # Cells in the order of their columns, as a record of the other forms keeps its fields.
    lines = [
        json.dumps(
            {
                "place": entry.place,
                "key": disclosed(entry.key),
                "image": "" if file is None else file.path,
                "uri": credentials.followed(entry.uri),
                "cells": disclosed(entry.cells),
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
        addresses=sum(bool(entry.uri) for entry, _ in named),
        samples=len(named),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The delivered images, by path, by name and by stem."""

    files: tuple[DeliveryFile, ...]
    by_name: Mapping[str, tuple[DeliveryFile, ...]] = field(default_factory=dict)

    @staticmethod
    def of(delivery: Delivery) -> Images:
        files = tuple(file for file in delivery.files if file.role == "image")
        found: dict[str, list[DeliveryFile]] = {}
        for file in files:
            path = PurePosixPath(file.path)
            for name in dict.fromkeys((file.path, path.name, path.stem)):
                found.setdefault(name, []).append(file)
        return Images(files=files, by_name={name: tuple(mine) for name, mine in found.items()})

    def find(self, entry: Entry, at: Delivered) -> DeliveryFile | None:
        names = filter(None, (entry.image, *entry.also))
        found = list({file.path: file for name in names for file in self.by_name.get(name, ())}.values())
        if len(found) > 1:
            told = f"{entry.image[:80]!a} is {found[0].path} or {found[1].path}; name the path"
            raise Refused(at.store.uri, entry.place, "ambiguous", told)
        return found[0] if found else None
