"""Admitted assets become training images: decoded once, upright, in sRGB, and measured while at hand.

Nothing that rights refused is decoded or copied; what the file itself forbids was read with its record. An
image that cannot be decoded fails alone, with a reason. The notices of a file go with its training image.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from infra.artifact import Made
from infra.settings import Section
from pipeline import (
    admission,
    archive,
    colors,
    duplicates,
    extract,
    notices,
    numerics,
    outcomes,
    refs,
    schema,
    tables,
)
from pipeline.deliveries.sample import Fault
from pipeline.stage import Stage, Transform, opened
from pipeline.step import IMAGES, ROWS, Report, Source, Step, Task
from tokenizer_service import images

JPEG = schema.column("jpeg", pa.binary(), "training image", optional=True)
ADDS = (JPEG, *schema.SEEN, schema.VERDICT)
LIBRARIES = ("pillow", "numpy")


class IngestConfig(Section):
    max_side: int = Field(512, ge=32)
    """Longer side of a training image, in pixels; smaller ones are kept as they are."""
    quality: int = Field(95, ge=50, le=100)
    """JPEG quality of training images, without chroma subsampling."""


def step(config: IngestConfig) -> Step:
    return Step(
        name="images",
        revision=3,
        inputs=("decide", "records"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=LIBRARIES),
        tasks=list_tasks,
        open=lambda: functools.partial(ingest, run=opened([stage(config)])),
    )


def list_tasks(source: Source) -> Sequence[Task]:
    """The delivered tars again, each with the decisions on its rows."""
    decided = source.artifact("decide").shards
    return [
        Task(
            slot=task.slot,
            reads={**task.reads, "rows": (refs.of(source.store, decided[task.slot], ROWS),)},
        )
        for task in admission.list_shards(source)
    ]


def stage(config: IngestConfig) -> Stage:
    return Stage(
        name="decode",
        reads=(schema.IMAGE,),
        adds=ADDS,
        open=lambda: functools.partial(decode, config=config),
        batch_rows=128,
    )


def ingest(task: Task, _report: Report, *, run: Transform) -> Made:
    rows = tables.read_parquet(task.only("rows"))
    admitted = outcomes.kept(rows)
    keys = set(admitted[schema.KEY.name].to_pylist())
    found = {
        sample.asset.member_key: sample.image
        for sample in admission.samples(task)
        if not isinstance(sample.asset, Fault) and sample.asset.member_key in keys
    }
    delivered = [found[key] for key in admitted[schema.KEY.name].to_pylist()]
    seen = run(admitted.append_column(schema.IMAGE, pa.array(delivered, schema.IMAGE.type)))
    rows = outcomes.settle(rows, seen[schema.VERDICT.name].to_pylist(), "images")
    rows = spread(rows, seen)
    files = {ROWS: tables.to_parquet(rows), IMAGES: archive.write(members(seen))}
    return Made(files=files, counts=outcomes.counts(rows, "images"))


def spread(rows: pa.Table, seen: pa.Table) -> pa.Table:
    """Append what was measured; null for rows that were never looked at."""
    place = {uid: row for row, uid in enumerate(seen[schema.UID.name].to_pylist())}
    index = pa.array([place.get(uid) for uid in rows[schema.UID.name].to_pylist()], pa.int64())
    for column in schema.SEEN:
        rows = rows.append_column(column, seen[column.name].take(index))
    return rows


def members(seen: pa.Table) -> list[tuple[str, bytes, dict[str, object], str]]:
    """Samples of the images tar, each with its rights beside it."""
    facts = [
        column.name
        for column in (schema.UID, schema.REVISION, schema.SHA256, schema.KEYWORDS, *schema.RIGHTS)
    ]
    return [
        (
            row[schema.KEY.name],
            row[JPEG.name],
            {name: row[name] for name in facts},
            row[schema.DESCRIPTION.name],
        )
        for row in seen.to_pylist()
        if row[JPEG.name] is not None
    ]


def decode(batch: pa.Table, *, config: IngestConfig) -> pa.Table:
    seen = [look(image, config) for image in batch[schema.IMAGE.name].to_pylist()]
    return pa.Table.from_pylist(seen, schema=pa.schema(ADDS))


def look(image: bytes, config: IngestConfig) -> dict[str, Any]:
    """The columns that an image adds. One at a time: decoded, the largest admitted takes 360 MB."""
    try:
        header, picture = images.probe(image), images.decode(image, at_least=config.max_side)
    except images.Undecodable as error:
        verdict = f"failed:undecodable: {error}"
        return {**dict.fromkeys(column.name for column in ADDS), schema.VERDICT.name: verdict}
    packet = notices.packet(extract.notices_of(image))
    return measure(picture, upright(header, picture), config, packet=packet)


def upright(header: images.Header, picture: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height as delivered, of a picture that may have been decoded smaller and turned."""
    turned = (picture.shape[0] > picture.shape[1]) != (header.height > header.width)
    return (header.height, header.width) if turned else (header.width, header.height)


def measure(
    decoded: NDArray[np.uint8], size: tuple[int, int], config: IngestConfig, *, packet: bytes | None
) -> dict[str, Any]:
    """All is measured on the training picture: three times as quick as on the delivered one."""
    picture = images.shrink(decoded, config.max_side)
    signature = duplicates.signatures([picture])
    return {
        JPEG.name: images.encode_jpeg(picture, config.quality, xmp=packet),
        schema.WIDTH.name: size[0],
        schema.HEIGHT.name: size[1],
        schema.PIXEL_STD.name: pixel_std(picture),
        schema.STRUCTURE.name: signature.structure_NGGF.tobytes(),
        schema.TINT.name: signature.tint_NGGC.tobytes(),
        schema.COLOR.name: colors.dominant(picture),
        schema.VERDICT.name: None,
    }


def pixel_std(picture: NDArray[np.uint8]) -> float:
    """Standard deviation of all values, from their histogram: numpy's would take eight bytes for each."""
    counts = np.array(Image.fromarray(picture).histogram()).reshape(3, 256).sum(axis=0)
    levels, total = np.arange(256.0), counts.sum()
    mean = (counts * levels).sum() / total
    return float(((counts * (levels - mean) ** 2).sum() / total) ** 0.5)
