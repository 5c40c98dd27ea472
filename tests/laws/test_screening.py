"""Scores and thresholds in a build: models run once, whatever thresholds are tried after that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Bar, Log
from pipeline import build, config, plan, refs, tables
from pipeline.engine import Done, Inline
from pipeline.step import ROWS, Step, Task

from .conftest import AS_OF, TINY, Build, Deliveries, sample

pytestmark = [pytest.mark.plan, pytest.mark.long]

SCORERS = ("pipeline.scores.nsfw = true", "pipeline.scores.alignment = true")


class OnlyScreens:
    """An engine for a changed threshold: whatever else is asked for runs a model again."""

    def run(self, step: Step, tasks: Sequence[Task], store: Store, bar: Bar) -> Iterator[Done]:
        assert not tasks or step.name == "screen", step.name
        return Inline().run(step, tasks, store, bar)


def screened(corpus: Corpus, head: Version, engine: Inline | OnlyScreens, file: Path, *lines: str) -> Version:
    file.write_text(TINY)
    settings = config.load(file, [*SCORERS, *lines])
    return build.run(corpus, head, plan.up_to(plan.build_steps(settings), "screen"), engine, Log())


def catalog(corpus: Corpus, version: Version) -> pa.Table:
    shards = sorted(corpus.artifact(version, "screen").shards.items())
    return pa.concat_tables([tables.read_parquet(refs.of(corpus.store, one, ROWS)) for _, one in shards])


def test_a_changed_threshold_judges_again_and_runs_no_model(
    tmp_path: Path, deliveries: Deliveries, built: Build
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    uri = deliveries.write([sample(number) for number in range(12)])
    head = built(corpus, [uri], Inline(), to="filter")
    assert head.as_of == AS_OF.isoformat()
    with corpus.writing(purpose="test"):
        first = screened(corpus, head, Inline(), tmp_path / "run.toml")
        values = catalog(corpus, first)["alignment"].to_pylist()
        assert catalog(corpus, first)["outcome"].to_pylist() == ["kept"] * 12
        middle = sorted(values)[6]
        line = f"pipeline.screen.min_alignment = {middle}"
        second = screened(corpus, first, OnlyScreens(), tmp_path / "run.toml", line)
    assert second.artifacts["scores"] == first.artifacts["scores"]
    assert corpus.artifact(second, "screen").counts == {"kept": 6, "rejected:alignment": 6}
    rows = catalog(corpus, second)
    for value, outcome, reasons in zip(
        values, *(rows[name].to_pylist() for name in ("outcome", "reasons")), strict=True
    ):
        assert outcome == ("rejected" if value < middle else "kept")
        assert all(reason.startswith("alignment: ") for reason in reasons)
    assert rows["nsfw"].null_count == 0
