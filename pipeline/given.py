"""An image tokenizer fitted elsewhere, taken into a build: a file of ours, or a published checkpoint.

Surprising rule: its bytes are what counts, never its path. They are copied into the corpus, and weights that
came from elsewhere bring their licence along.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from infra.artifact import Made
from infra.settings import Section
from pipeline.step import Report, Source, Step, Task
from tokenizer_service import checkpoints, vq
from tokenizer_service.vq import VQ


class GivenModel(Section):
    """What the step ``vq`` depends on where it fits nothing."""

    side: int
    model: str
    """sha256 of the file."""
    model_license: str | None = None
    """As the settings state it."""


def step(where: str, *, side: int, license: str | None, files: tuple[str, str]) -> Step:  # noqa: A002
    """``files``: the names of the model and of its curves in the step's shard."""
    config = GivenModel(side=side, model=checkpoints.sha256(found(where)), model_license=license)

    def tasks(_source: Source) -> list[Task]:
        return [Task(slot="all", reads={}, facts={"model": config.model})]

    return Step(
        name="vq",
        settings=config,
        tasks=tasks,
        open=lambda: functools.partial(take, where=where, config=config, files=files),
        fitted=True,
    )


def found(where: str) -> Path:
    try:
        return checkpoints.found(where)
    except ValueError as error:
        raise ValueError(
            f"tokenizer.image.model: {error}; or leave it out, and the build fits one"
        ) from error


def opened(where: str, *, license: str | None) -> VQ:  # noqa: A002  # as checkpoints has it
    return checkpoints.open_model(found(where), license=license)


def take(task: Task, _report: Report, *, where: str, config: GivenModel, files: tuple[str, str]) -> Made:
    """The model as the plan saw it, as a file of ours."""
    if checkpoints.sha256(path := found(where)) != task.facts["model"]:
        raise ValueError(f"{path} changed since the build began; begin it again")
    model = opened(where, license=config.model_license)
    if config.side % (f := model.config.downsample):
        raise ValueError(
            f"a code of {where} stands for {f} pixels a side, of which tokenizer.image.side = {config.side} "
            "is no multiple; change one of them"
        )
    name, curves = files
    return Made(files={name: vq.save(model), curves: b"[]"}, facts={"images": 0, **told(model)})


def told(model: VQ) -> Mapping[str, object]:
    weights = None if model.weights is None else model.weights.model_dump(mode="json")
    return {"codebook": model.config.codebook_size, "weights": weights}
