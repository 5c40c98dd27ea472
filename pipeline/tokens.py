"""Captions and images to token ids: fitting the two tokenizers, and the step that applies them.

Both are fitted once, on the training split, and pinned by the version. Raw indices are stored; offsets are
added when sequences are packed, so tokens survive a change of the id layout.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from infra.artifact import Made
from infra.settings import Section
from infra.storage import cache_folder
from pipeline import (
    captions,
    encoding,
    erasing,
    given,
    numerics,
    refs,
    rows,
    schema,
    tables,
    tokenized,
)
from pipeline.captions import CaptionConfig
from pipeline.encoding import square
from pipeline.outcomes import KEPT
from pipeline.stage import Stage, Transform, opened
from pipeline.step import IMAGES, ROWS, Report, Source, Step, Task, aligned, gathered, of_some
from pipeline.tokenized import Tokenizers
from tokenizer_service import coding, fit, text, vq
from tokenizer_service import perceptual as judges
from tokenizer_service.coding import Numerics
from tokenizer_service.perceptual import Perceptual
from tokenizer_service.recipe import VQFitConfig

TOKENS = "tokens.arrow"
BPE = "bpe.json"
VQ = "vq.safetensors"
CURVES = "curves.json"
LIBRARIES = ("torch", "numpy", "pillow", "timm")
TEXT_NUMERICS = {
    "tokenizers": importlib.metadata.version("tokenizers"),
    "unicode": unicodedata.unidata_version,
}
"""What cuts texts, and what says which characters are composed."""
WHOLE_SHARD = 1 << 30
"""Rows: batches of images are made within the stage, so that it need not wait for the first of each."""
DRAWN_BY = (schema.UID, schema.KEY, schema.OUTCOME, schema.SPLIT)
"""Of a catalog, to choose the images of a fit."""
FORM_COLUMNS = (schema.UID, schema.DESCRIPTION, schema.KEYWORDS, schema.COLOR, schema.MAY_DERIVE)


class TextConfig(Section):
    entries: int = Field(56_320, ge=256, le=56_320)
    """BPE entries to fit; a small corpus yields fewer."""
    captions: CaptionConfig = CaptionConfig()


class ImageConfig(Section):
    side: int = Field(256, ge=8)
    """Pixels of the square that is encoded; with f8, (side / 8)^2 tokens an image."""
    max_images: int = Field(200_000, ge=1)
    """Training images held in memory, the first by hash of their uid."""
    threads: int = Field(2, ge=1)
    """CPUs of the fit. Sums depend on it, so it is part of the model's identity."""
    fit: VQFitConfig = VQFitConfig()
    model: str | None = None
    """Path of a ``vq.safetensors`` that ``pardalis tokenizer fit`` made, or of a published checkpoint, or the
    OWNER/NAME:FILE of one on the hub: to take instead of fitting one."""
    model_license: str | None = None
    """What published weights are under, as an SPDX identifier; unstated, they serve no commercial purpose."""

    @field_validator("model")
    @classmethod
    def _from_any_folder(cls, model: str | None) -> str | None:
        """The next build may be begun elsewhere, and so may its workers."""
        return str(Path(model).absolute()) if model is not None and Path(model).is_file() else model

    def by_content(self) -> ImageConfig:
        """What a fit depends on: without paths, and without the model that is taken instead."""
        return self.model_copy(update={"fit": self.fit.by_content(), "model": None, "model_license": None})


class TokensConfig(Section):
    """What the tokens depend on beside the fitted models."""

    side: int
    captions: CaptionConfig
    encode: Numerics
    """As it was asked for."""
    batch_images: int
    """As it was done: less where the device had no room."""


def fit_text_step(config: TextConfig) -> Step:
    return Step(
        name="bpe",
        revision=2,
        inputs=("split",),
        settings=config,
        numerics=TEXT_NUMERICS,
        tasks=list_texts,
        open=lambda: functools.partial(fit_text, config=config),
        fitted=True,
    )


def list_texts(source: Source) -> Sequence[Task]:
    task = gathered(source, "all", rows=("split", ROWS))
    kept = source.artifact("split").counts.get(KEPT, 0)
    return [of_some(task, kept, captions.FITTED_ROWS)]


def fit_text(task: Task, _report: Report, *, config: TextConfig) -> Made:
    """The forms that are drawn of each caption, and the keywords that are in none of them alone."""
    share = task.facts.get("share", 1.0)

    def every_text() -> Iterator[str]:
        for ref in task.reads["rows"]:
            for row in rows.training(ref).select([column.name for column in FORM_COLUMNS]).to_pylist():
                if captions.place("bpe", row[schema.UID.name]) >= share * 2**64:
                    continue
                drawn = [form.text for form in forms(row, config.captions)]
                yield from dict.fromkeys([*drawn, *row[schema.KEYWORDS.name]])

    model = text.fit(every_text(), entries=config.entries)
    return Made(files={BPE: model.to_json().encode()}, facts={"entries": model.num_entries})


def forms(row: dict[str, Any], config: CaptionConfig) -> list[captions.Form]:
    """The caption's forms; colour words only where the licence grants derived captions."""
    return captions.forms(
        row[schema.DESCRIPTION.name],
        row[schema.KEYWORDS.name],
        row[schema.COLOR.name] if row[schema.MAY_DERIVE.name] else None,
        config=config,
        name=row[schema.UID.name],
    )


def fit_vq_step(config: ImageConfig) -> Step:
    """Fit a model, or take the one that the settings name."""
    if config.model is not None:
        return given.step(config.model, side=config.side, license=config.model_license, files=(VQ, CURVES))
    return Step(
        name="vq",
        inputs=("split", "images"),
        settings=config.by_content(),
        numerics=numerics.profile(threads=config.threads, libraries=LIBRARIES, device=numerics.device()),
        tasks=lambda source: [gathered(source, "all", rows=("split", ROWS), images=("images", IMAGES))],
        open=lambda: functools.partial(fit_vq, config=config),
        workers=numerics.workers(cpus=config.threads, gpus=1.0),
        fitted=True,
    )


def fit_vq(task: Task, report: Report, *, config: ImageConfig) -> Made:
    images_NHWC = training_squares(task, config)

    def told(step: int, facts: dict[str, float]) -> None:
        report(step, config.fit.steps, f"loss {facts['loss']:.4f}")

    fitted = fit.fit_vq(
        images_NHWC,
        config.fit,
        report=told,
        perceptual=perceptual(config.fit),
        device=numerics.device(),
    )
    fitted.model.config = vq.trained_at(fitted.model.config, config.side)
    files = {VQ: vq.save(fitted.model), CURVES: json.dumps(fitted.curves).encode()}
    return Made(files=files, facts={"images": len(images_NHWC), "codebook": config.fit.vq.codebook_size})


def perceptual(config: VQFitConfig) -> Perceptual | None:
    """What judges the drawn images beside the true ones; none where it has no weight."""
    if not config.compares:
        return None
    return judges.load(config.lpips, cache=cache_folder() / "weights", device=numerics.device())


def training_squares(task: Task, config: ImageConfig) -> NDArray[np.uint8]:
    """Training images [N, side, side, 3], at most ``max_images``, ordered by hash of their uid. A tar is read
    where one of its images was chosen.
    """
    chosen = training_keys(task.reads["rows"], config.max_images)
    if not chosen:
        raise ValueError("no training image is left to fit the image tokenizer on; see `pardalis status`")
    wanted: dict[int, list[tuple[int, str]]] = {}
    for number, (_, shard, key) in enumerate(chosen):
        wanted.setdefault(shard, []).append((number, key))
    found = np.empty((len(chosen), config.side, config.side, 3), np.uint8)
    for shard, members in wanted.items():
        keys = pa.table([[key for _, key in members]], schema=pa.schema([schema.KEY]))
        images = rows.with_images(keys, task.reads["images"][shard])[schema.IMAGE.name]
        for (number, _), image in zip(members, images.to_pylist(), strict=True):
            found[number] = square(image, config.side, config.fit.vq.preprocessing)
    return found


def training_keys(files: Sequence[refs.Ref], most: int) -> list[tuple[bytes, int, str]]:
    """Hash, shard and key of at most so many training rows, those whose hashes are smallest, in their order.

    One shard's rows are in memory, and of those before it twice as many as are wanted.
    """
    found: list[tuple[bytes, int, str]] = []
    highest: bytes | None = None
    for shard, ref in enumerate(files):
        table = rows.training(ref, DRAWN_BY)
        uids, keys = (table[column.name].to_pylist() for column in (schema.UID, schema.KEY))
        for uid, key in zip(uids, keys, strict=True):
            place = captions.digest("vq", uid)
            if highest is None or place < highest:
                found.append((place, shard, key))
        if len(found) > 2 * most:
            found = sorted(found)[:most]
            highest = found[-1][0]
    return sorted(found)[:most]


def step(text_config: TextConfig, image_config: ImageConfig, encode: Numerics) -> Step:
    config = TokensConfig(
        side=image_config.side,
        captions=text_config.captions,
        encode=encode,
        batch_images=encode.batch_images,
    )
    return step_of(config)


def step_of(config: TokensConfig) -> Step:
    device = numerics.device()
    workers = numerics.workers(cpus=1 if device == "cpu" else encoding.GPU_THREADS, gpus=0.25)
    half = config.model_copy(update={"batch_images": config.batch_images // 2})
    return Step(
        name="tokenize",
        revision=3,
        inputs=("split", "images", "bpe", "vq"),
        settings=config,
        numerics={
            **numerics.profile(threads=workers.cpus, libraries=LIBRARIES, device=device),
            **TEXT_NUMERICS,
        },
        workers=workers,
        tasks=lambda source: aligned(
            source, rows=("split", ROWS), images=("images", IMAGES), bpe=("bpe", BPE), vq=("vq", VQ)
        ),
        open=lambda: functools.partial(tokenize, config=config, threads=workers.cpus),
        erase=erasing.rows,
        smaller=functools.partial(step_of, half) if half.batch_images else None,
    )


def tokenize(task: Task, _report: Report, *, config: TokensConfig, threads: int) -> Made:
    table = rows.with_images(rows.kept(task.only("rows")), task.only("images"))
    made_by = Tokenizers(text=task.only("bpe").sha256, image=task.only("vq").sha256)
    found = stages(task.only("bpe"), task.only("vq"), config, threads)(table)
    tokens = tokenized.signed(found, made_by).select(schema.TOKENS.names)
    return Made(
        files={TOKENS: tables.to_ipc(tokens)},
        counts={KEPT: tokens.num_rows},
        facts={"text_tokenizer": made_by.text, "image_tokenizer": made_by.image},
    )


@functools.lru_cache(maxsize=1)
def stages(bpe: refs.Ref, vq_ref: refs.Ref, config: TokensConfig, threads: int) -> Transform:
    """The two stages, opened once a worker: weights are read once, however many shards follow."""
    model = vq.load(vq_ref.read()).to(numerics.device())
    codes = schema.CODES if coding.code_dtype(model) is np.uint16 else schema.WIDE_CODES
    image = Stage(
        name="image codes",
        reads=(schema.IMAGE,),
        adds=(codes,),
        open=lambda: functools.partial(encode_images, model=model, config=config, threads=threads),
        batch_rows=WHOLE_SHARD,
    )
    words = Stage(
        name="caption forms",
        reads=FORM_COLUMNS,
        adds=(schema.TEXTS,),
        open=lambda: functools.partial(
            encode_texts, model=text.from_json(bpe.read().decode()), config=config
        ),
    )
    return opened([image, words])


def encode_images(batch: pa.Table, *, model: vq.VQ, config: TokensConfig, threads: int) -> pa.Table:
    codes_BT = encoding.codes(
        batch[schema.IMAGE.name].to_pylist(),
        model=model,
        side=config.side,
        numerics=config.encode.model_copy(update={"batch_images": config.batch_images}),
        threads=threads,
    )
    field = schema.CODES if codes_BT.dtype == np.uint16 else schema.WIDE_CODES
    return pa.table([tables.list_column(codes_BT)], schema=pa.schema([field]))


def encode_texts(batch: pa.Table, *, model: text.TextTokenizer, config: TokensConfig) -> pa.Table:
    """The forms of every caption, in one call of the tokenizer: a call a row takes four times as long."""
    found = [forms(row, config.captions) for row in batch.to_pylist()]
    ids = iter(model.encode([form.text for those in found for form in those]))
    encoded = [
        [{"kind": form.kind, "origin": form.origin, "ids": next(ids)} for form in those] for those in found
    ]
    return pa.table([pa.array(encoded, schema.TEXTS.type)], schema=pa.schema([schema.TEXTS]))
