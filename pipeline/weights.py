"""Weights that a configuration asks for, looked for before a build takes its lease or starts an engine.

The surprising rule: they are looked for on the machine that starts the build. Workers are of its kind.
"""

from __future__ import annotations

from pipeline import given, scores
from pipeline.config import Config
from pipeline.filtering import language
from pipeline.tokens import ImageConfig
from tokenizer_service import checkpoints, vocabulary


def check(config: Config, *, commercial: bool = False, packs: bool = False) -> None:
    """Raises ValueError with everything that is switched on and has no weights here, or no code to read them,
    and how to get it; for a model that is taken and may not serve the purpose, which is ``commercial`` or
    what the settings say; and for codes that have no ids in the sequences of a build that ``packs``.
    """
    missing = scores.missing(config.pipeline.scores, config.retrieval.encoder)
    refuse(missing + of_filters(config) + of_tokenizer(config.tokenizer.image))
    image = config.tokenizer.image
    size = image.fit.vq.codebook_size
    if image.model is not None:  # opened once: it may have a gigabyte
        model = given.opened(image.model, license=image.model_license)
        size = model.config.codebook_size
        commercial = commercial or config.pipeline.purpose.commercial
        checkpoints.refuse_noncommercial(model.weights, commercial=commercial)
    if packs and size > vocabulary.MAX_CODES:
        raise ValueError(
            f"the image tokenizer has {size} codes, and there are ids for {vocabulary.MAX_CODES}: build "
            "--to neighbors at most, or take a codebook of that size"
        )


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
