"""All settings but the tokenizers', and where a command finds them: a file, the corpus, or the default file.

The surprising rule: nothing here imports torch. It takes seconds, and whoever mistyped a threshold should not
wait for them; the tokenizers' own settings stand beside networks, and are read last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from pydantic import model_validator

from infra.corpus import Corpus
from infra.options import CorpusOptions
from infra.settings import Section
from pipeline import reading
from pipeline.duplicates import DuplicateConfig
from pipeline.embed import AlignConfig, EncoderConfig
from pipeline.examples import ExampleConfig
from pipeline.fetching import FetchConfig
from pipeline.filters import FilterRules
from pipeline.ingest import IngestConfig
from pipeline.queries import QueryConfig
from pipeline.reading import Told
from pipeline.rights import Purpose
from pipeline.scheduling import WorkersConfig
from pipeline.scores import ScoreConfig
from pipeline.screening import ScreenRules, unscored
from pipeline.sealing import AuditConfig
from pipeline.split import SplitConfig
from retrieval.exclude import NeighborConfig
from retrieval.layouts import IndexConfig

CONFIG = "config.json"
"""The resolved configuration that the corpus was last written with."""


class PipelineTable(Section):
    purpose: Purpose = Purpose()
    fetch: FetchConfig = FetchConfig()
    ingest: IngestConfig = IngestConfig()
    filters: FilterRules = FilterRules()
    scores: ScoreConfig = ScoreConfig()
    screen: ScreenRules = ScreenRules()
    duplicates: DuplicateConfig = DuplicateConfig()
    split: SplitConfig = SplitConfig()
    examples: ExampleConfig = ExampleConfig()
    audit: AuditConfig = AuditConfig()
    workers: WorkersConfig = WorkersConfig()


class RetrievalTable(Section):
    encoder: EncoderConfig = EncoderConfig()
    align: AlignConfig = AlignConfig()
    index: IndexConfig = IndexConfig()
    queries: QueryConfig = QueryConfig()
    neighbors: NeighborConfig = NeighborConfig()


class Settings(Section):
    pipeline: PipelineTable = PipelineTable()
    retrieval: RetrievalTable = RetrievalTable()

    @model_validator(mode="after")
    def _no_threshold_is_without_its_scorer(self) -> Self:
        rules, scores = self.pipeline.screen, self.pipeline.scores
        if found := unscored(rules, scores):
            threshold, scorer = found[0]
            raise ValueError(
                f"pipeline.screen.{threshold} = {getattr(rules, threshold)} has nothing to judge: switch on "
                f"pipeline.scores.{scorer}, or leave the threshold out"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A corpus, and the settings that a command on it was given."""

    corpus: Corpus
    told: Told

    @staticmethod
    def of(options: CorpusOptions) -> Asked:
        corpus = options.open()
        return Asked(corpus=corpus, told=told(corpus, options))


def told(corpus: Corpus, options: CorpusOptions) -> Told:
    """The file given; else the configuration that the corpus was last written with; else the default one.

    What is used is kept with the corpus, resolved, so that the next command need not be told again.
    """
    if options.config is None and corpus.store.exists(CONFIG):
        values = json.loads(corpus.store.read(CONFIG))
        return reading.told(values, corpus.store.where(CONFIG), options.overrides)
    return by_file(options)


def by_file(options: CorpusOptions) -> Told:
    """The file given, else the default one."""
    return reading.read(options.config or reading.CONFIGS / "node.toml", options.overrides)


def check(found: Told) -> None:
    """Raises BadConfig for settings that cannot be; first of those that are read in a second."""
    reading.of_tables(Settings, found)
    from pipeline import config  # noqa: PLC0415  # torch

    config.of(found)
