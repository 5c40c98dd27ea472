"""Admitted assets become training images: decoded once, upright, in sRGB, and measured while at hand.

Nothing that rights refused is decoded or copied; what the file itself forbids was read with its record. One
delivered image is in memory at a time, and is decoded in a process that may die of it: such an image is
quarantined, one that cannot be decoded fails, each alone and with a reason. The notices of a file go with its
training image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from infra.artifact import Made
from infra.guarded.isolated import Died, Isolated
from infra.settings import Section
from pipeline import (
    archive,
    colors,
    extract,
    looking,
    notices,
    numerics,
    outcomes,
    records,
    refs,
    schema,
    signatures,
    tables,
)
from pipeline.contract import Asset
from pipeline.deliveries.sample import Fault, Sample
from pipeline.looking import Picture
from pipeline.step import IMAGES, ROWS, Report, Source, Step, Task
from tokenizer_service import images

JPEG = "jpeg"
Columns = Mapping[str, Any]
"""What an image adds, by column of ``schema.SEEN``, with its training image and its verdict."""
UNSEEN = dict.fromkeys((JPEG, *(column.name for column in (*schema.SEEN, schema.VERDICT))))
LIBRARIES = ("pillow", "numpy")


class IngestConfig(Section):
    max_side: int = Field(512, ge=32)
    """Longer side of a training image, in pixels; smaller ones are kept as they are."""
    quality: int = Field(95, ge=50, le=100)
    """JPEG quality of training images, without chroma subsampling."""


def step(config: IngestConfig) -> Step:
    return Step(
        name="images",
        revision=5,
        inputs=("decide", "records"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=LIBRARIES),
        tasks=list_tasks,
        open=lambda: functools.partial(ingest, config=config, decoder=looking.decoder(config.max_side)),
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
    keys = admitted[schema.KEY.name].to_pylist()
    wanted = set(keys)
    found = {
        sample.asset.member_key: look(sample, sample.asset, config, decoder)
        for sample in records.samples(task)
        if not isinstance(sample.asset, Fault) and sample.asset.member_key in wanted
    }
    seen = [found[key] for key in keys]
    rows = outcomes.settle(rows, [columns[schema.VERDICT.name] for columns in seen], "images")
    rows = spread(rows, admitted, seen)
    files = {ROWS: tables.to_parquet(rows), IMAGES: archive.write(members(admitted, seen))}
    return Made(files=files, counts=outcomes.counts(rows, "images"))


def spread(rows: pa.Table, admitted: pa.Table, seen: Sequence[Columns]) -> pa.Table:
    """Append what was measured; null for rows that were never looked at."""
    of = dict(zip(admitted[schema.UID.name].to_pylist(), seen, strict=True))
    found = [of.get(uid, UNSEEN) for uid in rows[schema.UID.name].to_pylist()]
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


def look(sample: Sample, asset: Asset, config: IngestConfig, decoder: Isolated) -> Columns:
    """The columns that an image adds, and a verdict where it is out."""
    try:
        picture = looking.seen(sample.image, decoder)
    except images.Undecodable as error:
        return UNSEEN | {schema.VERDICT.name: f"failed:undecodable: {error}"}
    except Died as died:
        return UNSEEN | {schema.VERDICT.name: f"quarantined:decoder_died: {died}"}
    file = asset.file
    if (picture.width, picture.height) not in ((file.width, file.height), (file.height, file.width)):
        told = f"file.width, file.height: got {file.width}x{file.height}"
        found = (
            f"the picture has {picture.width}x{picture.height}; correct the record, or send the image again"
        )
        return UNSEEN | {schema.VERDICT.name: f"quarantined:dimensions_mismatch: {told}; {found}"}
    packet = notices.packet(extract.notices_of(sample.image, sample.packets))
    return measure(picture, config, packet=packet)


def measure(picture: Picture, config: IngestConfig, *, packet: bytes | None) -> Columns:
    """All is measured on the training picture: three times as quick as on the delivered one."""
    pixels_HWC = picture.pixels_HWC
    signature = signatures.measured([pixels_HWC])
    return {
        JPEG: images.encode_jpeg(pixels_HWC, config.quality, xmp=packet),
        schema.WIDTH.name: picture.width,
        schema.HEIGHT.name: picture.height,
        schema.PIXEL_STD.name: pixel_std(pixels_HWC),
        schema.SHARPNESS.name: None,
        schema.PHASH.name: None,
        schema.STRUCTURE.name: signature.structure_NGGF.tobytes(),
        schema.TINT.name: signature.tint_NGGC.tobytes(),
        schema.COLOR.name: colors.dominant(pixels_HWC),
        schema.VERDICT.name: None,
    }


def pixel_std(picture: NDArray[np.uint8]) -> float:
    """Standard deviation of all values, from their histogram: numpy's would take eight bytes for each."""
    counts = np.array(Image.fromarray(picture).histogram()).reshape(3, 256).sum(axis=0)
    levels, total = np.arange(256.0), counts.sum()
    mean = (counts * levels).sum() / total
    return float(((counts * (levels - mean) ** 2).sum() / total) ** 0.5)
