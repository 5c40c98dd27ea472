"""Model values of the rows that the cheap rules kept: only of the scorers that are switched on.

The surprising rule: no threshold stands here. ``screening`` has them, so that changing one never runs a model
again. With no scorer on, no picture is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.artifact import Made
from infra.settings import Section
from pipeline import erasing, numerics, rows, schema, tables
from pipeline.embed import FEATURES, EncoderConfig, matrix
from pipeline.outcomes import KEPT
from pipeline.scorers import aesthetic, alignment, faces, nsfw, watermark
from pipeline.scorers.installed import Weights
from pipeline.stage import Stage, Transform, opened
from pipeline.step import IMAGES, ROWS, Report, Source, Step, Task, aligned
from tokenizer_service import images

SCORES = "scores.arrow"
LIBRARIES = ("numpy", "torch")
"""Of every scorer; each has its own beside them."""
Pictures = Sequence[NDArray[np.uint8]]


class ScoreConfig(Section):
    """Which models look at the rows that the filters kept. Their thresholds stand in ``pipeline.screen``."""

    nsfw: bool = False
    """open_nsfw: probability of pornography. 60 ms a picture on one core."""
    watermark: bool = False
    """Text over the picture, by OCR. 0.7 s a picture."""
    faces: bool = False
    """MTCNN: how many faces, and the largest. 0.15 s a picture."""
    alignment: bool = False
    """Cosine of picture and caption, by ``retrieval.encoder``."""
    aesthetic: str | None = None
    """Path of a head for the image features of ``retrieval.encoder``, where every worker sees it."""


class Identities(Section):
    """What the scores depend on: which scorers are on, and sha256 of their weights; never a path."""

    nsfw: str | None
    watermark: str | None
    faces: str | None
    alignment: bool
    aesthetic: str | None


class Looks(Protocol):
    def seen(self, pictures: Pictures, /) -> tuple[NDArray[Any], ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A model that looks at pictures."""

    columns: tuple[pa.Field, ...]
    weights: Weights
    load: Callable[[], Looks]


SCORERS: Mapping[str, Scorer] = {
    "nsfw": Scorer(columns=(schema.NSFW,), weights=nsfw.WEIGHTS, load=nsfw.Nsfw.load),
    "faces": Scorer(columns=(schema.FACES, schema.FACE_SHARE), weights=faces.WEIGHTS, load=faces.Faces.load),
    "watermark": Scorer(
        columns=(schema.TEXT_SHARE, schema.TEXT_REPEATS, schema.STOCK_MARKS),
        weights=watermark.WEIGHTS,
        load=watermark.Watermarks.load,
    ),
}
"""By their switch."""


def looking(config: ScoreConfig) -> tuple[str, ...]:
    """The scorers that are on and look at pictures."""
    return tuple(name for name in SCORERS if getattr(config, name))


def comparing(config: ScoreConfig) -> bool:
    """Whether a scorer is on that reads the encoder's features."""
    return config.alignment or config.aesthetic is not None


def missing(config: ScoreConfig, encoder: EncoderConfig) -> list[str]:
    """Every scorer that is on and has no weights here, with how to get them."""
    found = {f"pipeline.scores.{name}": SCORERS[name].weights.missing() for name in looking(config)}
    if config.aesthetic is not None:
        found["pipeline.scores.aesthetic"] = unfit(Path(config.aesthetic), encoder)
    if comparing(config):
        found["retrieval.encoder.pretrained"] = unknown(encoder)
    return [f"{field}: {why}" for field, why in found.items() if why is not None]


def unfit(path: Path, encoder: EncoderConfig) -> str | None:
    """Why a head cannot score the encoder's features."""
    if not path.is_file():
        return f"{path} is no file; give the path of a head such as LAION's sa_0_4_vit_l_14_linear.pth"
    try:
        head = aesthetic.Head.load(path)
    except ValueError as error:
        return str(error)
    width = image_width(encoder)
    return None if width in (None, head.width) else aesthetic.misfit(head.width, width)


def unknown(encoder: EncoderConfig) -> str | None:
    """Why an encoder has no weights, as far as that is known without a download. What open_clip fetches under
    other names than its own, such as ``hf-hub:``, is not looked at.
    """
    if encoder.kind == "offline" or Path(encoder.pretrained).is_file():
        return None
    import open_clip  # noqa: PLC0415

    tags = open_clip.list_pretrained_tags_by_model(encoder.model)
    if open_clip.get_pretrained_cfg(encoder.model, encoder.pretrained) or ":" in encoder.model:
        return None
    return (
        f"{encoder.pretrained!r} is neither a file nor a tag that open_clip has for {encoder.model}; give "
        f"the path of a checkpoint, or one of: {', '.join(tags) or 'none'}"
    )


def image_width(encoder: EncoderConfig) -> int | None:
    """Image features of an encoder, without its weights; None where only they tell."""
    if encoder.kind == "offline":
        from retrieval import offline  # noqa: PLC0415  # 5 s of libraries, for those who ask
        from tokenizer_service import features  # noqa: PLC0415

        return features.WIDTH + offline.TEXT_WIDTH
    import open_clip  # noqa: PLC0415

    known = open_clip.get_model_config(encoder.model)
    return None if known is None else int(known["embed_dim"])


def identities(config: ScoreConfig) -> Identities:
    sha256 = {name: SCORERS[name].weights.identity if getattr(config, name) else None for name in SCORERS}
    head = None if config.aesthetic is None else aesthetic.identity(Path(config.aesthetic))
    return Identities(**sha256, alignment=config.alignment, aesthetic=head)


def step(config: ScoreConfig) -> Step:
    return Step(
        name="scores",
        inputs=("filter", "images", "features") if comparing(config) else ("filter", "images"),
        settings=identities(config),
        numerics=computing(config) if config != ScoreConfig() else {},
        tasks=functools.partial(list_tasks, config=config),
        open=lambda: functools.partial(score, config=config),
        erase=erasing.rows,
    )


def computing(config: ScoreConfig) -> dict[str, object]:
    """The numerics of the scorers that are on."""
    libraries = {
        name: found for on in looking(config) for name, found in SCORERS[on].weights.versions.items()
    }
    return {**numerics.profile(threads=1, libraries=LIBRARIES), "scorers": libraries}


def list_tasks(source: Source, *, config: ScoreConfig) -> list[Task]:
    """A task reads what its scorers do, and nothing else."""
    roles = {"rows": ("filter", ROWS)}
    if looking(config):
        roles["images"] = ("images", IMAGES)
    if comparing(config):
        roles["features"] = ("features", FEATURES)
    return aligned(source, **roles)


def score(task: Task, _report: Report, *, config: ScoreConfig) -> Made:
    """A row for every row that ``filter`` kept, in its order; null in the columns of what is off."""
    kept = rows.kept(task.only("rows"))
    found: dict[str, Any] = {}
    if "images" in task.reads:
        seen = looks(looking(config))(rows.with_images(kept, task.only("images")))
        found |= {column.name: seen[column.name] for column in columns_of(looking(config))}
    if "features" in task.reads and kept.num_rows:
        found |= compared(kept, tables.read_ipc(task.only("features")), config)
    table = kept.select([schema.UID.name, schema.REVISION.name])
    for column in schema.MEASURED:
        table = table.append_column(column, found.get(column.name, pa.nulls(kept.num_rows, column.type)))
    return Made(files={SCORES: tables.to_ipc(table)}, counts={KEPT: table.num_rows})


def columns_of(names: Sequence[str]) -> tuple[pa.Field, ...]:
    return tuple(column for name in names for column in SCORERS[name].columns)


@functools.lru_cache(maxsize=1)
def looks(names: tuple[str, ...]) -> Transform:
    """Each picture is decoded once for all of them. 16 decoded pictures of 512 px are 12 MiB."""
    columns = columns_of(names)
    stage = Stage(
        name="look",
        reads=(schema.IMAGE,),
        adds=columns,
        open=lambda: functools.partial(
            look, models=[SCORERS[name].load() for name in names], columns=columns
        ),
        batch_rows=16,
    )
    return opened([stage])


def look(batch: pa.Table, *, models: Sequence[Looks], columns: Sequence[pa.Field]) -> pa.Table:
    pictures = [images.decode(image) for image in batch[schema.IMAGE.name].to_pylist()]
    found = [values for model in models for values in model.seen(pictures)]
    return pa.table(
        [pa.array(values, column.type) for values, column in zip(found, columns, strict=True)],
        schema=pa.schema(columns),
    )


def compared(kept: pa.Table, encoded: pa.Table, config: ScoreConfig) -> dict[str, pa.Array]:
    """What the features say; their rows are those kept."""
    if encoded[schema.UID.name] != kept[schema.UID.name]:
        raise RuntimeError("the features are of other rows than the filter kept: a bug")
    images_BF, texts_BD = (
        matrix(encoded[column.name]) for column in (schema.IMAGE_FEATURES, schema.TEXT_FEATURES)
    )
    found = {}
    if config.alignment:
        found[schema.ALIGNMENT.name] = pa.array(alignment.cosines(images_BF, texts_BD))
    if config.aesthetic is not None:
        head = aesthetic.Head.load(Path(config.aesthetic))
        found[schema.AESTHETIC.name] = pa.array(head.scores(images_BF))
    return found
