"""What each document asks the index with: its picture and its caption, each less a share of its tokens.

The surprising rule: only the search sees these vectors. What is found is judged against the whole document,
or a copy of it would pass for something merely similar wherever the patches fell on what both show.
"""

from __future__ import annotations

import functools

import pyarrow as pa
from pydantic import Field

from infra.artifact import Made
from infra.settings import Section
from pipeline import captions, embed, erasing, numerics, rows, schema, tables
from pipeline.embed import EMBEDDINGS, PROJECTION, EncoderConfig
from pipeline.outcomes import KEPT
from pipeline.stage import Stage, Transform, opened
from pipeline.step import IMAGES, ROWS, Report, Step, Task, aligned
from retrieval import dropout, encoders
from tokenizer_service import images, sizes


class QueryConfig(Section):
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of a query's words, and of the patches of its picture, that are dropped (CM3Leon: 0.2)."""
    seed: int = 0


def step(config: QueryConfig, encoder: EncoderConfig) -> Step:
    return Step(
        name="queries",
        inputs=("split", "images", "align"),
        settings=Asking(**config.model_dump(), encoder=encoder),
        numerics=embed.encoding_numerics(encoder),
        tasks=lambda source: aligned(
            source, rows=("split", ROWS), images=("images", IMAGES), align=("align", PROJECTION)
        ),
        open=lambda: functools.partial(asked, config=config, encoder=encoder),
        workers=numerics.workers(cpus=1, gpus=0.25),
        erase=erasing.rows,
    )


class Asking(QueryConfig):
    encoder: EncoderConfig


def asked(task: Task, _report: Report, *, config: QueryConfig, encoder: EncoderConfig) -> Made:
    table = rows.with_images(rows.kept(task.only("rows")), task.only("images"))
    found = embed.placed(asking(config, encoder)(table), embed.load_projection(task.only("align")))
    return Made(files={EMBEDDINGS: tables.to_ipc(found)}, counts={KEPT: found.num_rows})


@functools.lru_cache(maxsize=1)
def asking(config: QueryConfig, encoder: EncoderConfig) -> Transform:
    stage = Stage(
        name="ask",
        reads=(schema.UID, schema.IMAGE, schema.DESCRIPTION),
        adds=(schema.IMAGE_FEATURES, schema.TEXT_FEATURES),
        open=lambda: functools.partial(
            encode, encoder=embed.load_encoder(encoder), side=encoder.side, config=config
        ),
        batch_rows=64,
    )
    return opened([stage])


def encode(batch: pa.Table, *, encoder: encoders.Encoder, side: int, config: QueryConfig) -> pa.Table:
    squares, texts = [], []
    for uid, image, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
        rng = captions.generator("query", config.seed, uid)
        squares.append(dropout.patches(sizes.fit_square(images.decode(image), side), config.dropout, rng))
        texts.append(dropout.words(text, config.dropout, rng))
    added = pa.schema([schema.IMAGE_FEATURES, schema.TEXT_FEATURES])
    return pa.table([*embed.encoded(encoder, squares, texts, side=side)], schema=added)
