"""Admitted assets become training images: decoded once, upright, in sRGB, and measured while at hand.

Nothing that rights refused is decoded or copied; what the file itself forbids was read with its record. One
delivered image is in memory at a time, and is decoded in a process that may die of it: such an image is
quarantined, one that cannot be decoded fails, each alone and with a reason. The notices of a file go with its
training image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from infra.artifact import Made
from infra.guarded.isolated import Died, Isolated
from infra.settings import Section
from pipeline import (
    archive,
    erasing,
    extract,
    looking,
    measuring,
    notices,
    numerics,
    outcomes,
    records,
    refs,
    schema,
    tables,
)
from pipeline.deliveries.sample import Sample
from pipeline.step import IMAGES, ROWS, Report, Source, Step, Task
from tokenizer_service import images, jpegs

# H height, W width
Pixels = NDArray[np.uint8]

JPEG = "jpeg"
MEASURED_AT_ONCE = 16
"""Training pictures that wait to be measured: 12 MB of pixels at 512 px a side."""
Row = Mapping[str, Any]
"""Of the catalog: uid, key, sha256, and the size as delivered."""
Columns = dict[str, Any]
"""What an image adds: its size, ``schema.SEEN``, its training image and its verdict."""
ADDED = (schema.WIDTH, schema.HEIGHT, *schema.SEEN, schema.VERDICT)
UNSEEN: Columns = dict.fromkeys((JPEG, *(column.name for column in ADDED)))
LIBRARIES = ("pillow", "numpy", "simplejpeg", "cykooz.resizer")


class IngestConfig(Section):
    max_side: int = Field(512, ge=32)
    """Longer side of a training image, in pixels; smaller ones are kept as they are."""
    quality: int = Field(95, ge=50, le=100)
    """JPEG quality of training images, without chroma subsampling."""
    reencode: Literal["always", "needed"] = "always"
    """``needed`` keeps the pixels of a JPEG that fits as they were coded, and nothing else of the file. For
    deliveries that are trusted: later steps decode those bytes without a guard."""


def step(config: IngestConfig) -> Step:
    return Step(
        name="images",
        revision=6,
        inputs=("decide", "records"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=LIBRARIES),
        tasks=list_tasks,
        open=lambda: functools.partial(ingest, config=config, decoder=looking.decoder(config.max_side)),
        erase=erasing.rows,
    )


def list_tasks(source: Source) -> Sequence[Task]:
    """The delivered tars again, each with the decisions on its rows."""
    decided = source.artifact("decide").shards
    return [
        replace(task, reads={**task.reads, "rows": (refs.of(source.store, decided[task.slot], ROWS),)})
        for task in records.list_tasks(source)
    ]


def ingest(task: Task, _report: Report, *, config: IngestConfig, decoder: Isolated) -> Made:
    rows = tables.read_parquet(task.only("rows"))
    admitted = outcomes.kept(rows)
    found = looked(pictures(task, admitted), config, decoder)
    seen = [found[key] for key in admitted[schema.KEY.name].to_pylist()]
    rows = outcomes.settle(rows, [columns[schema.VERDICT.name] for columns in seen], "images")
    rows = spread(rows, admitted, seen)
    files = {ROWS: tables.to_parquet(rows), IMAGES: archive.write(members(admitted, seen))}
    return Made(files=files, counts=outcomes.counts(rows, "images"))


def pictures(task: Task, admitted: pa.Table) -> Iterator[tuple[Row, Sample]]:
    """The admitted rows with their samples, in the order of the delivery. Records are not judged again: a
    sample is that of a row whose key and bytes it has.
    """
    provider: str = task.hints["delivery"].provider
    columns = (schema.UID, schema.KEY, schema.SHA256, schema.WIDTH, schema.HEIGHT)
    wanted = {row["uid"]: row for row in admitted.select([column.name for column in columns]).to_pylist()}
    for sample in records.samples(task):
        row = wanted.get(f"{provider}:{sample.key}")
        if row is not None and sample.digest() == row["sha256"]:
            yield row, sample


def looked(
    found: Iterable[tuple[Row, Sample]], config: IngestConfig, decoder: Isolated
) -> dict[str, Columns]:
    """By member key. Pictures are measured some at a time, which takes half as long as one by one."""
    seen: dict[str, Columns] = {}
    waiting: dict[str, Pixels] = {}

    def measure() -> None:
        for key, columns in zip(waiting, measuring.seen(list(waiting.values())), strict=True):
            seen[key] |= columns
        waiting.clear()

    for row, sample in found:
        key = row["key"]
        seen[key], pixels_HWC = look(row, sample, config, decoder)
        if pixels_HWC is not None:
            waiting[key] = pixels_HWC
        if len(waiting) == MEASURED_AT_ONCE:
            measure()
    measure()
    return seen


def spread(rows: pa.Table, admitted: pa.Table, seen: Sequence[Columns]) -> pa.Table:
    """Append what was measured, null for rows that were never looked at; sizes become those of the pixels."""
    of = dict(zip(admitted[schema.UID.name].to_pylist(), seen, strict=True))
    found = [of.get(uid, UNSEEN) for uid in rows[schema.UID.name].to_pylist()]
    for column in (schema.WIDTH, schema.HEIGHT):
        told = rows[column.name].to_pylist()
        size = [one[column.name] or before for one, before in zip(found, told, strict=True)]
        at = rows.schema.get_field_index(column.name)
        rows = rows.set_column(at, column, pa.array(size, column.type))
    for column in schema.SEEN:
        rows = rows.append_column(column, pa.array([one[column.name] for one in found], column.type))
    return rows


def members(
    admitted: pa.Table, seen: Sequence[Columns]
) -> Iterator[tuple[str, bytes, dict[str, object], str]]:
    """Samples of the images tar, each with its rights beside it."""
    facts = [
        column.name
        for column in (schema.UID, schema.REVISION, schema.SHA256, schema.KEYWORDS, *schema.RIGHTS)
    ]
    for row, columns in zip(admitted.to_pylist(), seen, strict=True):
        if columns[JPEG] is not None:
            beside = {name: row[name] for name in facts}
            yield row[schema.KEY.name], columns[JPEG], beside, row[schema.DESCRIPTION.name]


def look(row: Row, sample: Sample, config: IngestConfig, decoder: Isolated) -> tuple[Columns, Pixels | None]:
    """The columns that an image adds, and its training pixels, which are still to be measured; without
    pixels, a verdict.
    """
    try:
        picture = looking.seen(sample.image, decoder)
    except images.Undecodable as error:
        return out(f"failed:undecodable: {error}")
    except Died as died:
        return out(f"quarantined:decoder_died: {died}")
    if sorted((picture.width, picture.height)) != sorted((row["width"], row["height"])):
        told = f"file.width, file.height: got {row['width']}x{row['height']}"
        found = f"the picture has {picture.width}x{picture.height}"
        fix = "correct the record, or send the image again"
        return out(f"quarantined:dimensions_mismatch: {told}; {found}; {fix}")
    packet = notices.packet(extract.notices_of(sample.image, sample.packets))
    as_sent = config.reencode == "needed" and picture.is_plain
    jpeg = jpegs.kept(sample.image, xmp=packet) if as_sent else None
    columns = {
        JPEG: jpeg or jpegs.encode(picture.pixels_HWC, config.quality, xmp=packet),
        schema.WIDTH.name: picture.width,
        schema.HEIGHT.name: picture.height,
    }
    return UNSEEN | columns, picture.pixels_HWC


def out(verdict: str) -> tuple[Columns, None]:
    return UNSEEN | {schema.VERDICT.name: verdict}, None
