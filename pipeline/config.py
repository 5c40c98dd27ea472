"""One typed tree for a run: a TOML file, then overrides, then validation. Nothing else reads settings.

The sections live beside the code that they configure; this module only composes them. Each package validates
its own tables and those below it; a table that belongs to nobody is refused.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails

from infra.redaction import credential_places, masked
from infra.settings import Section
from pipeline.duplicates import DuplicateConfig
from pipeline.embed import AlignConfig, EncoderConfig
from pipeline.examples import ExampleConfig
from pipeline.fetching import FetchConfig
from pipeline.filters import FilterRules
from pipeline.ingest import IngestConfig
from pipeline.rights import Purpose
from pipeline.scores import ScoreConfig
from pipeline.screening import ScreenRules, unscored
from pipeline.split import SplitConfig
from pipeline.tokens import ImageConfig, TextConfig
from retrieval.exclude import NeighborConfig
from retrieval.index import IndexConfig
from tokenizer_service.sizes import MAX_ENLARGEMENT

CONFIGS = Path(__file__).parent.parent / "infra" / "configs"
TABLES = ("pipeline", "tokenizer", "retrieval", "trainer")


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


class TokenizerTable(Section):
    text: TextConfig = TextConfig()
    image: ImageConfig = ImageConfig()


class RetrievalTable(Section):
    encoder: EncoderConfig = EncoderConfig()
    align: AlignConfig = AlignConfig()
    index: IndexConfig = IndexConfig()
    neighbors: NeighborConfig = NeighborConfig()


class Config(Section):
    pipeline: PipelineTable = PipelineTable()
    tokenizer: TokenizerTable = TokenizerTable()
    retrieval: RetrievalTable = RetrievalTable()

    @model_validator(mode="after")
    def _no_image_is_too_small(self) -> Self:
        """What the filters let through can be made the squares that tokenizer and encoder take."""
        rules, longest = self.pipeline.filters, self.pipeline.ingest.max_side
        smallest = min(rules.min_side, longest / rules.max_aspect)
        asked = max(self.tokenizer.image.side, self.retrieval.encoder.side)
        if smallest * MAX_ENLARGEMENT < asked:
            raise ValueError(
                f"images of {smallest:.0f} px pass the filters (min_side {rules.min_side}, max_aspect "
                f"{rules.max_aspect:g} of max_side {longest}) and are too small for squares of {asked} px, "
                f"being enlarged at most {MAX_ENLARGEMENT:g} times; raise pipeline.filters.min_side or "
                "pipeline.ingest.max_side, or lower tokenizer.image.side or retrieval.encoder.side"
            )
        return self

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


class BadConfig(ValueError):
    """A setting is unknown, of the wrong type or out of range."""


def read(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The file's values, each override being one more line of TOML, such as ``pipeline.filters.min_side =
    512``.
    """
    try:
        values = parsed(path.read_text(), str(path))
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}; give --config a TOML file") from None
    except UnicodeDecodeError:
        raise BadConfig(f"{path} is not UTF-8 text; give --config a TOML file") from None
    values = overridden(values, overrides)
    unknown = sorted(set(values) - set(TABLES))
    if unknown:
        raise BadConfig(f"{path}: unknown table {unknown[0]!r}; the tables are {', '.join(TABLES)}")
    return values


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for line in overrides:
        name = next(iter(line.partition("=")[0].split()), "")
        values = merged(values, parsed(line, f"--set {name}"))
    return values


def parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{where} is not TOML: {error}; write NAME = VALUE, words in quotes") from None


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` wins; tables merge, everything else is replaced."""
    tables = (key for key in over if isinstance(base.get(key), dict) and isinstance(over[key], dict))
    return {**base, **over, **{key: merged(base[key], over[key]) for key in tables}}


S = TypeVar("S", bound=Section)


def validated(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    """A section from plain values; every fault is listed with its field.

    What is set is kept with the corpus for all to read, so a credential is refused wherever it stands; and a
    setting that is unknown is told without its value, which may be one all the same.
    """
    if held := credential_places(values):
        fix = "leave it out: they come from AWS_SECRET_ACCESS_KEY and its like, from roles or from files"
        raise BadConfig(
            f"{where}: {held[0]} holds a credential, and settings are kept with the corpus; {fix}"
        )
    try:
        # JSON mode keeps strict typing and still lets an array become a tuple. TOML's dates become strings,
        # which no setting takes for a number.
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        faults = map(_line, error.errors(include_url=False))
        raise BadConfig("\n".join([f"{where} has settings that cannot be:", *faults])) from None


def _line(fault: ErrorDetails) -> str:
    if fault["type"] == "value_error" and not fault["loc"]:  # about several tables at once
        return f"  {fault['msg']}"
    name = ".".join(map(str, fault["loc"]))
    got = "" if fault["type"] == "extra_forbidden" else f" = {masked(repr(fault['input']))}"
    return f"  {name}{got}: {fault['msg']}"


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The tables of the pipeline and of the packages below it."""
    return mine(read(path, overrides), str(path))


def mine(values: Mapping[str, Any], where: str) -> Config:
    """Without the tables of the packages above."""
    return validated(Config, {name: values[name] for name in Config.model_fields if name in values}, where)
