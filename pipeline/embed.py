"""Encoder features, the projection that aligns them, and the vectors that the index holds.

Features are computed once, of all that the filters kept, since scores and duplicates are judged by them; and
with them, while a picture is decoded, what else is compared of it. The projection is fitted on the training
split and pinned; embedding is then one matrix product. An encoder that needs no alignment (open_clip) gets
the identity.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from infra.artifact import Made
from infra.settings import Section
from infra.storage import cache_folder
from pipeline import captions, erasing, measuring, numerics, refs, rows, schema, tables
from pipeline.outcomes import KEPT
from pipeline.stage import Stage, Transform, opened
from pipeline.step import IMAGES, ROWS, Report, Source, Step, Task, aligned, gathered, of_some
from retrieval import align, encoders
from tokenizer_service import images, sizes

FEATURES = "features.arrow"
PROJECTION = "projection.safetensors"
EMBEDDINGS = "embeddings.arrow"
TRAINED_BY = (schema.UID, schema.OUTCOME, schema.SPLIT)
"""Of a catalog, to choose the pairs of a fit."""
LIBRARIES = ("torch", "numpy", "onnxruntime", "pillow", "timm", "open-clip-torch", "cykooz.resizer")


class EncoderConfig(Section):
    kind: Literal["offline", "open_clip"] = "offline"
    """``offline``: EfficientNet-Lite0 and MiniLM, aligned by a ridge fitted on the corpus (not CLIP)."""
    model: str = "ViT-B-32"
    """open_clip: the architecture."""
    pretrained: str = "laion2b_s34b_b79k"
    """open_clip: a published tag, or the path of a checkpoint."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """open_clip: of the products. bfloat16 is meant for GPUs."""
    compiled: bool = False
    """open_clip: by torch.compile, a minute once a worker. Meant for GPUs."""
    side: int = Field(224, ge=32)
    """Pixels of the square handed to the encoder."""


class AlignConfig(Section):
    ridge: float | None = Field(None, gt=0)
    """Penalty; chosen on a part of the training split where it is not given."""


def load_encoder(config: EncoderConfig) -> encoders.Encoder:
    """Imported here, where weights are loaded: listing tasks must not wait 5 s for the libraries."""
    if config.kind == "offline":
        from retrieval.offline import OfflineEncoder  # noqa: PLC0415

        return OfflineEncoder.load(cache_folder() / "weights", device=numerics.device())
    import torch  # noqa: PLC0415

    from retrieval.clip import OpenClipEncoder  # noqa: PLC0415

    return OpenClipEncoder.load(
        config.model,
        config.pretrained,
        device=numerics.device(),
        dtype=getattr(torch, config.dtype),
        compiled=config.compiled,
    )


def features_step(config: EncoderConfig) -> Step:
    return Step(
        name="features",
        inputs=("filter", "images"),
        settings=config,
        numerics=encoding_numerics(config),
        tasks=lambda source: aligned(source, rows=("filter", ROWS), images=("images", IMAGES)),
        open=lambda: functools.partial(features, config=config),
        workers=numerics.workers(cpus=1, gpus=0.25),
        erase=erasing.rows,
    )


def encoding_numerics(config: EncoderConfig) -> dict[str, object]:
    """Of every step that encodes."""
    return {
        **numerics.profile(threads=1, libraries=LIBRARIES, device=numerics.device()),
        "weights": encoders.weights_identity(config.kind, config.model, config.pretrained),
    }


def features(task: Task, _report: Report, *, config: EncoderConfig) -> Made:
    table = rows.with_images(rows.kept(task.only("rows")), task.only("images"))
    found = encoding(config)(table).select(schema.FEATURES.names)
    return Made(files={FEATURES: tables.to_ipc(found)}, counts={KEPT: found.num_rows})


@functools.lru_cache(maxsize=1)
def encoding(config: EncoderConfig) -> Transform:
    stage = Stage(
        name="encode",
        reads=(schema.IMAGE, schema.DESCRIPTION),
        adds=(schema.IMAGE_FEATURES, schema.TEXT_FEATURES, *schema.LOOKS),
        open=lambda: functools.partial(encode, encoder=load_encoder(config), side=config.side),
        batch_rows=64,
    )
    return opened([stage])


def encode(batch: pa.Table, *, encoder: encoders.Encoder, side: int) -> pa.Table:
    pictures = [images.decode(image) for image in batch[schema.IMAGE.name].to_pylist()]
    squares = [sizes.fit_square(picture, side) for picture in pictures]
    looks = tables.of_rows(measuring.looks(pictures), pa.schema(schema.LOOKS))
    columns = [
        *encoded(encoder, squares, batch[schema.DESCRIPTION.name].to_pylist(), side=side),
        *looks.columns,
    ]
    added = (schema.IMAGE_FEATURES, schema.TEXT_FEATURES, *schema.LOOKS)
    return pa.table(columns, schema=pa.schema(added))


def encoded(
    encoder: encoders.Encoder, squares: Sequence[NDArray[np.uint8]], texts: Sequence[str], *, side: int
) -> tuple[pa.Array, pa.Array]:
    """IMAGE_FEATURES and TEXT_FEATURES of as many pictures as texts, none of them too."""
    images_BHWC = np.stack(squares) if squares else np.zeros((0, side, side, 3), np.uint8)
    features = (encoder.image_features(images_BHWC), encoder.text_features(texts))
    return tables.list_column(features[0]), tables.list_column(features[1])


def align_step(config: AlignConfig, encoder: EncoderConfig) -> Step:
    return Step(
        name="align",
        revision=2,
        inputs=("split", "features"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=("numpy",)),
        tasks=list_pairs,
        open=lambda: functools.partial(fit_projection, config=config, trained=encoder.kind == "offline"),
        fitted=True,
    )


def list_pairs(source: Source) -> Sequence[Task]:
    task = gathered(source, "all", rows=("split", ROWS), features=("features", FEATURES))
    return [of_some(task, source.artifact("split").counts.get(KEPT, 0), captions.FITTED_ROWS)]


def fit_projection(task: Task, _report: Report, *, config: AlignConfig, trained: bool) -> Made:
    """One shard of features is in memory at a time."""
    if not trained:
        return untrained(task)
    regression, share = align.Regression(ridge=config.ridge), task.facts.get("share", 1.0)
    for rows_ref, ref in zip(task.reads["rows"], task.reads["features"], strict=True):
        wanted = rows.training(rows_ref, TRAINED_BY)
        places = [captions.place("align", uid) for uid in wanted[schema.UID.name].to_pylist()]
        mine = [place < share * 2**64 for place in places]
        if any(mine):
            found = tables.read_ipc(ref).select(
                [schema.UID.name, schema.IMAGE_FEATURES.name, schema.TEXT_FEATURES.name]
            )
            table = of_rows(wanted.filter(pa.array(mine)), found)
            regression.add(
                matrix(table[schema.IMAGE_FEATURES.name]),
                matrix(table[schema.TEXT_FEATURES.name]),
                np.array(places, np.uint64)[mine],
            )
    files = {PROJECTION: regression.projection().to_bytes()}
    return Made(files=files, facts={"pairs": regression.num_pairs})


def untrained(task: Task) -> Made:
    """The identity: of the features only their number is looked at."""
    pairs = sum(rows.training(ref, TRAINED_BY).num_rows for ref in task.reads["rows"])
    texts = (tables.read_ipc(ref)[schema.TEXT_FEATURES.name] for ref in task.reads["features"])
    width = next((matrix(column).shape[1] for column in texts if len(column)), 0)
    return Made(files={PROJECTION: align.identity(width).to_bytes()}, facts={"pairs": pairs})


def of_rows(wanted: pa.Table, found: pa.Table) -> pa.Table:
    """The features of the rows wanted, in the order of the rows."""
    return found.take(pc.index_in(wanted[schema.UID.name], found[schema.UID.name]))


def matrix(column: pa.ChunkedArray, *, width: int = 0) -> NDArray[Any]:
    """A list column whose lists have one length, as [rows, length]; ``width`` is that of no row."""
    flat = column.combine_chunks().flatten()
    return np.asarray(flat).reshape(len(column), -1 if len(column) else width)


def vectors(table: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The image vectors and the text vectors of embedded rows, each [rows, D]."""
    image, text = (
        matrix(table[column.name]).astype(np.float32) for column in (schema.IMAGE_VECTOR, schema.TEXT_VECTOR)
    )
    return image, text


def step() -> Step:
    return Step(
        name="embed",
        inputs=("split", "features", "align"),
        settings=Section(),
        numerics=numerics.profile(threads=1, libraries=("numpy",)),
        tasks=lambda source: aligned(
            source, rows=("split", ROWS), features=("features", FEATURES), align=("align", PROJECTION)
        ),
        open=lambda: embed,
        erase=erasing.rows,
    )


def embed(task: Task, _report: Report) -> Made:
    table = of_rows(rows.kept(task.only("rows")), tables.read_ipc(task.only("features")))
    table = placed(table, load_projection(task.only("align")))
    return Made(files={EMBEDDINGS: tables.to_ipc(table)}, counts={KEPT: table.num_rows})


def placed(table: pa.Table, projection: align.Projection) -> pa.Table:
    """Rows with features, as rows with vectors in the space that both sides share."""
    vectors = {
        schema.IMAGE_VECTOR: projection.images(
            matrix(table[schema.IMAGE_FEATURES.name], width=len(projection.mean))
        ),
        schema.TEXT_VECTOR: projection.texts(
            matrix(table[schema.TEXT_FEATURES.name], width=len(projection.center))
        ),
    }
    table = table.select([schema.UID.name, schema.REVISION.name])
    for column, found in vectors.items():
        table = table.append_column(column, tables.list_column(found.astype(np.float16)))
    return table


@functools.lru_cache(maxsize=1)
def load_projection(ref: refs.Ref) -> align.Projection:
    return align.Projection.of(ref.read())
