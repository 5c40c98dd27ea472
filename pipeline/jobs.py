"""The commands that write a corpus: ``ingest`` and ``build``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from infra import cluster
from infra.corpus import Corpus, Lease, Version
from infra.options import CorpusOptions, EngineOptions, answer
from infra.telemetry import Log
from pipeline import build as building
from pipeline import config as configuration
from pipeline import folding, indexing, plan
from pipeline.config import Config
from pipeline.engine import Engine, Inline, OnRay
from pipeline.step import Step


@contextlib.contextmanager
def engine(options: EngineOptions) -> Iterator[Engine]:
    """The engine that the command line asks for; a local Ray lives as long as the block."""
    if options.engine == "inline":
        yield Inline()
        return
    with cluster.joined(options.cluster()):
        on_ray = OnRay()
        try:
            yield on_ray
        finally:
            on_ray.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A corpus held for writing, with the configuration and the engine to write it."""

    corpus: Corpus
    lease: Lease
    config: Config
    engine: Engine
    log: Log

    def run(self, version: Version, steps: Sequence[Step]) -> Version:
        return building.run(self.corpus, version, steps, self.engine, self.log)


@contextlib.contextmanager
def job(command: str, options: CorpusOptions, engine_options: EngineOptions) -> Iterator[Job]:
    """Take the lease, start the engine, and write the event log whatever happens."""
    corpus, log = options.open(), Log()
    config = load(corpus, options)
    with corpus.writing(purpose=f"pardalis {command}") as lease, engine(engine_options) as found:
        try:
            yield Job(corpus=corpus, lease=lease, config=config, engine=found, log=log)
        finally:
            log.save(corpus.store, command)


def load(corpus: Corpus, options: CorpusOptions) -> Config:
    """The given file; else the one that the corpus keeps from its last ``ingest`` or ``build``."""
    path = options.config or folding.kept_config(corpus)
    if path is None:
        return configuration.load(configuration.CONFIGS / "node.toml", options.overrides)
    return configuration.load(path, options.overrides)
