"""Weights that a configuration asks for, looked for before a build takes its lease or starts an engine.

The surprising rule: they are looked for on the machine that starts the build. Workers are of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import given, scores
from pipeline.config import Config
from pipeline.filtering import language
from pipeline.step import Step
from pipeline.tokens import ImageConfig
from tokenizer_service import checkpoints, vocabulary


def check_ids(config: Config, steps: Sequence[Step]) -> None:
    """Raises ValueError where the build goes as far as sequences and some codes have no ids there."""
    image = config.tokenizer.image
    size = image.fit.vq.codebook_size
    if image.model is not None:
        size = given.opened(image.model, license=image.model_license).config.codebook_size
    if size > vocabulary.MAX_CODES and "examples" in {step.name for step in steps}:
        raise ValueError(
            f"the image tokenizer has {size} codes, and there are ids for {vocabulary.MAX_CODES}: build "
            "--to neighbors at most, or take a codebook of that size"
        )


def check(config: Config) -> None:
    """Raises ValueError with everything that is switched on and has no weights here, or no code to read them,
    and how to get it.
    """
    missing = scores.missing(config.pipeline.scores, config.retrieval.encoder)
    refuse(missing + of_filters(config) + of_tokenizer(config.tokenizer.image))
    check_terms(config.tokenizer.image, commercial=config.pipeline.purpose.commercial)


def check_terms(image: ImageConfig, *, commercial: bool) -> None:
    """Refuse a model that is taken and may not serve the purpose."""
    if image.model is not None:
        model = given.opened(image.model, license=image.model_license)
        checkpoints.refuse_noncommercial(model.weights, commercial=commercial)


def objection(config: Config) -> str | None:
    """What :func:`check` would say, told by who only looks."""
    try:
        check(config)
    except ValueError as error:
        return str(error)
    return None


def check_filters(config: Config) -> None:
    """The same of the filters alone: a preview runs no other model."""
    refuse(of_filters(config))


def of_filters(config: Config) -> list[str]:
    asked = config.pipeline.filters.languages is not None
    why = language.WEIGHTS.missing() if asked else None
    return [] if why is None else [f"pipeline.filters.languages: {why}"]


def of_tokenizer(image: ImageConfig) -> list[str]:
    files = image.fit.lpips
    return [] if files is None else [f"tokenizer.image.fit.lpips: {why}" for why in files.missing()]


def refuse(found: list[str]) -> None:
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        raise ValueError(f"weights are missing that the configuration asks for:\n{lines}")
