"""The whole pipeline on one screen: what is made, from what, with which settings. Declaring it runs
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from infra.guarded.https import INTERNET, Network
from pipeline import (
    deciding,
    dedup,
    embed,
    examples,
    fetching,
    filters,
    indexing,
    ingest,
    neighbors,
    queries,
    records,
    scores,
    screening,
    split,
    tokens,
)
from pipeline.config import Config
from pipeline.step import Step


def ingest_steps(config: Config, as_of: datetime, network: Network = INTERNET) -> tuple[Step, ...]:
    """Deliveries to records, records to decided rows, what is admitted to training images."""
    return (
        fetching.step(config.pipeline.fetch, network),
        records.step(),
        deciding.step(config.pipeline.purpose, as_of),
        ingest.step(config.pipeline.ingest),
    )


def build_steps(config: Config) -> tuple[Step, ...]:
    """Training images to packed token shards. What is fitted sees the training split alone."""
    tokenizer, retrieval = config.tokenizer, config.retrieval
    return (
        filters.step(config.pipeline.filters),
        embed.features_step(retrieval.encoder),
        scores.step(config.pipeline.scores),
        screening.step(config.pipeline.screen),
        dedup.step(config.pipeline.duplicates),
        split.step(config.pipeline.split),
        tokens.fit_text_step(tokenizer.text),
        tokens.fit_vq_step(tokenizer.image),
        tokens.step(tokenizer.text, tokenizer.image, tokenizer.encode),
        embed.align_step(retrieval.align, retrieval.encoder),
        embed.step(),
        *indexing.steps(retrieval.index),
        queries.step(retrieval.queries, retrieval.encoder),
        neighbors.step(retrieval.neighbors),
        examples.step(config.pipeline.examples),
    )


def steps(config: Config) -> tuple[Step, ...]:
    """All of them, in order; to name them and what they read, not to run them."""
    return (*ingest_steps(config, datetime.fromtimestamp(0, UTC)), *build_steps(config))


def up_to(steps: Sequence[Step], last: str | None) -> tuple[Step, ...]:
    """The steps until ``last``; all of them without it."""
    names = [step.name for step in steps]
    if last is None:
        return tuple(steps)
    if last not in names:
        raise ValueError(f"there is no step {last!r}; the steps of build are {', '.join(names)}")
    return tuple(steps[: names.index(last) + 1])
