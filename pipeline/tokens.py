"""Captions and images to token ids: fitting the two tokenizers, and the step that applies them.

Both are fitted once, on the training split, and pinned by the version. Raw indices are stored; offsets are
added when sequences are packed, so tokens survive a change of the id layout.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from infra.artifact import Made
from infra.settings import Section
from infra.storage import cache_folder
from pipeline import captions, numerics, refs, rows, schema, tables
from pipeline.captions import CaptionConfig
from pipeline.outcomes import KEPT
from pipeline.stage import Stage, Transform, opened
from pipeline.step import IMAGES, ROWS, Report, Step, Task, aligned, gathered
from tokenizer_service import fit, images, sizes, text, vq
from tokenizer_service.features import Backbone
from tokenizer_service.fit import VQFitConfig

TOKENS = "tokens.arrow"
BPE = "bpe.json"
VQ = "vq.safetensors"
CURVES = "curves.json"
LIBRARIES = ("torch", "numpy", "pillow", "timm")
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


class TokensConfig(Section):
    """What the tokens depend on beside the fitted models."""

    side: int
    captions: CaptionConfig


def fit_text_step(config: TextConfig) -> Step:
    return Step(
        name="bpe",
        inputs=("split",),
        settings=config,
        tasks=lambda source: [gathered(source, "all", rows=("split", ROWS))],
        open=lambda: functools.partial(fit_text, config=config),
        fitted=True,
    )


def fit_text(task: Task, _report: Report, *, config: TextConfig) -> Made:
    def every_form() -> Iterator[str]:
        for ref in task.reads["rows"]:
            for row in rows.training(ref).select([column.name for column in FORM_COLUMNS]).to_pylist():
                yield from (form.text for form in forms(row, config.captions))

    model = text.fit(every_form(), entries=config.entries)
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
    return Step(
        name="vq",
        inputs=("split", "images"),
        settings=config,
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
    files = {VQ: vq.save(fitted.model), CURVES: json.dumps(fitted.curves).encode()}
    return Made(files=files, facts={"images": len(images_NHWC), "codebook": config.fit.vq.codebook_size})


def perceptual(config: VQFitConfig) -> fit.Perceptual | None:
    """How differently EfficientNet-Lite0 sees the drawn and the true images; none where it has no weight."""
    if not config.perceptual_weight:
        return None
    return Backbone.load(cache_folder() / "weights", device=numerics.device()).distance


def training_squares(task: Task, config: ImageConfig) -> NDArray[np.uint8]:
    """Training images [N, side, side, 3], at most ``max_images``, ordered by hash of their uid."""
    found: list[tuple[bytes, NDArray[np.uint8]]] = []
    for ref, tar in zip(task.reads["rows"], task.reads["images"], strict=True):
        table = rows.with_images(rows.training(ref), tar)
        for uid, image in zip(table["uid"].to_pylist(), table["image"].to_pylist(), strict=True):
            found.append((captions.digest("vq", uid), square(image, config.side)))
    found.sort(key=lambda pair: pair[0])
    if not found:
        raise ValueError("no training image is left to fit the image tokenizer on; see `pardalis status`")
    return np.stack([pixels for _, pixels in found[: config.max_images]])


def square(image: bytes, side: int) -> NDArray[np.uint8]:
    """A stored image as [side, side, 3]."""
    return sizes.fit_square(images.decode(image), side)


def step(text_config: TextConfig, image_config: ImageConfig) -> Step:
    config = TokensConfig(side=image_config.side, captions=text_config.captions)
    return Step(
        name="tokenize",
        inputs=("split", "images", "bpe", "vq"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=LIBRARIES, device=numerics.device()),
        workers=numerics.workers(cpus=1, gpus=0.25),
        tasks=lambda source: aligned(
            source, rows=("split", ROWS), images=("images", IMAGES), bpe=("bpe", BPE), vq=("vq", VQ)
        ),
        open=lambda: functools.partial(tokenize, config=config),
    )


def tokenize(task: Task, _report: Report, *, config: TokensConfig) -> Made:
    table = rows.with_images(rows.kept(task.only("rows")), task.only("images"))
    run = stages(task.only("bpe"), task.only("vq"), config)
    tokens = run(table).select(schema.TOKENS.names)
    return Made(files={TOKENS: tables.to_ipc(tokens)}, counts={KEPT: tokens.num_rows})


@functools.lru_cache(maxsize=1)
def stages(bpe: refs.Ref, vq_ref: refs.Ref, config: TokensConfig) -> Transform:
    """The two stages, opened once a worker: weights are read once, however many shards follow."""
    image = Stage(
        name="image codes",
        reads=(schema.IMAGE,),
        adds=(schema.CODES,),
        open=lambda: functools.partial(
            encode_images, model=vq.load(vq_ref.read()).to(numerics.device()), side=config.side
        ),
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


def encode_images(batch: pa.Table, *, model: vq.VQ, side: int) -> pa.Table:
    pixels = [square(image, side) for image in batch[schema.IMAGE.name].to_pylist()]
    shape = (0, side, side, 3)
    codes_BT = vq.encode_images(model, np.stack(pixels) if pixels else np.zeros(shape, np.uint8))
    return pa.table([list_column(codes_BT)], schema=pa.schema([schema.CODES]))


def list_column(values_BT: NDArray[Any]) -> pa.ListArray:
    """A rectangular array as a list column, without a loop over rows."""
    B, T = values_BT.shape
    offsets = pa.array(np.arange(B + 1, dtype=np.int32) * T)
    return pa.ListArray.from_arrays(offsets, pa.array(values_BT.ravel()))


def encode_texts(batch: pa.Table, *, model: text.TextTokenizer, config: TokensConfig) -> pa.Table:
    encoded = [encode_forms(forms(row, config.captions), model) for row in batch.to_pylist()]
    return pa.table([pa.array(encoded, schema.TEXTS.type)], schema=pa.schema([schema.TEXTS]))


def encode_forms(found: Sequence[captions.Form], model: text.TextTokenizer) -> list[dict[str, Any]]:
    ids = model.encode([form.text for form in found])
    return [
        {"kind": form.kind, "origin": form.origin, "ids": entries.astype(np.uint16)}
        for form, entries in zip(found, ids, strict=True)
    ]
