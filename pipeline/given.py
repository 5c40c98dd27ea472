"""An image tokenizer that was fitted elsewhere, taken into a build as it is.

Surprising rule: its bytes are what counts, never its path. They are copied into the corpus, and weights that
came from elsewhere bring their licence along.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from infra.artifact import Made
from infra.settings import Section
from pipeline.step import Report, Source, Step, Task
from tokenizer_service import checkpoints, vq


class GivenModel(Section):
    """What the step ``vq`` depends on where it fits nothing."""

    side: int
    model: str
    """sha256 of the file."""


def step(path: str, *, side: int, files: tuple[str, str]) -> Step:
    """``files``: the names of the model and of its curves in the step's shard."""
    sha256 = identity(path)

    def tasks(_source: Source) -> list[Task]:
        return [Task(slot="all", reads={}, facts={"model": sha256})]

    return Step(
        name="vq",
        settings=GivenModel(side=side, model=sha256),
        tasks=tasks,
        open=lambda: functools.partial(take, path=path, side=side, files=files),
        fitted=True,
    )


def identity(path: str) -> str:
    """sha256 of the file."""
    return hashlib.sha256(read(path)).hexdigest()


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"tokenizer.image.model = {path!r} cannot be read: {error.strerror}; give the vq.safetensors of "
            "a run of `pardalis tokenizer fit`, or leave it out to fit one"
        ) from None


def take(task: Task, _report: Report, *, path: str, side: int, files: tuple[str, str]) -> Made:
    """The file's bytes, as the plan saw them."""
    data = read(path)
    if hashlib.sha256(data).hexdigest() != task.facts["model"]:
        raise ValueError(f"{path} changed since the build began; begin it again")
    model = vq.load(data)
    if side % (f := model.config.downsample):
        raise ValueError(
            f"a code of {path} stands for {f} pixels a side, of which tokenizer.image.side = {side} is no "
            "multiple; change one of them"
        )
    weights = None if model.weights is None else model.weights.model_dump(mode="json")
    facts = {"images": 0, "codebook": model.config.codebook_size, "weights": weights}
    name, curves = files
    return Made(files={name: data, curves: b"[]"}, facts=facts)


def refuse(path: str, *, commercial: bool) -> None:
    """Raises ValueError where the file is no tokenizer of ours, or its weights may not serve the purpose."""
    checkpoints.refuse_noncommercial(vq.load(read(path)).weights, commercial=commercial)
