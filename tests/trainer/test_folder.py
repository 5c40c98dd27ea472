"""The folder of a run: which settings it takes, and whom it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import runs
from infra.artifact import Artifact, artifact_name, pretty
from infra.corpus import Corpus, Version
from infra.options import CorpusOptions
from infra.storage import Store
from pipeline.reading import BadConfig
from pipeline.shards import ShardInfo
from trainer import folder
from trainer.config import TrainerConfig
from trainer.model import ModelSection
from trainer.spans import MaskingSection

VERSION = Version(number=3, artifacts={"pack": "p"})
NEW = Path("no-such-run")


def info(*, context: int = 256, max_spans: int = 1, rows: int = 8) -> ShardInfo:
    return {
        "context": context,
        "max_spans": max_spans,
        "vocabulary": "v",
        "format": 1,
        "rows": rows,
        "documents": rows,
        "tokens": rows,
        "bytes": rows,
        "blocks": [],
    }


@given(
    context=st.integers(8, 10_000),
    rooms=st.lists(st.integers(0, 8), min_size=1, max_size=3),
    ranks=st.sampled_from([1, 2, 4]),
)
def test_the_settings_of_a_new_run_fit_whatever_was_packed(
    context: int, rooms: list[int], ranks: int
) -> None:
    packs = [info(context=context, max_spans=room) for room in rooms]
    folder.check(folder.settings(NEW, CorpusOptions(), packs), packs, ranks=ranks)


def test_a_file_wins_over_the_packs_and_an_override_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[trainer.model]\ncontext = 300\n[trainer.optimizer]\nnum_steps = 200\n")
    options = CorpusOptions(config=file, overrides=("trainer.optimizer.num_steps = 150",))
    found = folder.settings(NEW, options, [info()])
    assert (found.model.context, found.masking.max_spans, found.optimizer.num_steps) == (300, 1, 150)


def test_a_run_goes_on_with_the_settings_that_it_began_with(tmp_path: Path) -> None:
    began = TrainerConfig(seed=5, model=ModelSection(context=300))
    first = folder.claim(tmp_path, VERSION, began, {})
    assert first == folder.identity(VERSION, began)
    assert folder.settings(tmp_path, CorpusOptions(), [info()]) == began
    changed = folder.settings(tmp_path, CorpusOptions(overrides=("trainer.seed = 6",)), [info()])
    with pytest.raises(runs.OtherRun, match=r"holds a run of other packs, or with another trainer\.model"):
        folder.claim(tmp_path, VERSION, changed, {})
    longer = folder.settings(tmp_path, CorpusOptions(overrides=("trainer.optimizer.num_steps = 9000",)))
    assert folder.claim(tmp_path, VERSION, longer, {}) == first
    assert folder.settings(tmp_path, CorpusOptions()) == longer


def test_a_table_that_is_a_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("trainer = 1\n")
    with pytest.raises(BadConfig, match="= 1: "):
        folder.settings(NEW, CorpusOptions(config=tmp_path / "run.toml"), [info()])


def test_an_override_of_an_unknown_table_is_refused() -> None:
    with pytest.raises(BadConfig, match="unknown table 'trianer'"):
        folder.settings(NEW, CorpusOptions(overrides=("trianer.seed = 6",)))


@pytest.mark.parametrize(
    ("changes", "ranks", "told"),
    [
        ({"masking": MaskingSection(max_spans=2)}, 1, r"pipeline\.examples\.rows\.max_spans"),
        ({"model": ModelSection(context=255)}, 1, r"trainer\.model\.context is 255 .* up to 256"),
        ({}, 3, "rows_per_step 32 is no multiple of 3 ranks"),
    ],
)
def test_settings_that_the_packs_do_not_bear_are_refused(
    changes: dict[str, Any], ranks: int, told: str
) -> None:
    fits = folder.settings(NEW, CorpusOptions(), [info()])
    with pytest.raises(ValueError, match=told):
        folder.check(fits.model_copy(update=changes), [info()], ranks=ranks)


def test_packs_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="1 shards hold no rows"):
        folder.check(TrainerConfig(), [info(rows=0)], ranks=1)


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Corpus, Version]:
    """A corpus with a text tokenizer and two image tokenizers; the version has the first."""
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    for step, key in (("bpe", "b1"), ("vq", "v1"), ("vq", "v2")):
        artifact = Artifact(step=step, key=key, settings={}, inputs={}, shards={})
        corpus.store.write(artifact_name(step, key), pretty(artifact.json()))
    return corpus, replace(VERSION, models={"bpe": "b1", "vq": "v1"})


def test_a_run_is_sampled_only_with_the_tokenizers_that_it_was_trained_with(
    corpus: tuple[Corpus, Version], tmp_path: Path
) -> None:
    store, version = corpus
    config = TrainerConfig()
    folder.claim(tmp_path, version, config, folder.tokenizers(store, version))
    folder.check_tokenizers(tmp_path, store, version)
    refitted = replace(version, models={"bpe": "b1", "vq": "v2"})
    with pytest.raises(runs.OtherRun, match=r"another corpus \(vq v1, not v2\)"):
        folder.check_tokenizers(tmp_path, store, refitted)


def test_a_run_that_does_not_name_its_tokenizers_is_not_sampled(
    corpus: tuple[Corpus, Version], tmp_path: Path
) -> None:
    (tmp_path / folder.RUN).write_text(json.dumps({"identity": "i", "config": {}}))
    with pytest.raises(ValueError, match=r"run\.json does not say which tokenizers .* --resume"):
        folder.check_tokenizers(tmp_path, *corpus)


@pytest.mark.parametrize("path", ["s3://bucket/run", "gs:/bucket/run"])
def test_an_address_is_no_folder_of_a_run(path: str) -> None:
    with pytest.raises(ValueError, match="address of an object store"):
        runs.folder(Path(path))


@pytest.mark.parametrize("path", ["run", "/run", "a/b:/c", "a:b/c"])
def test_a_local_path_is_a_folder_of_a_run(path: str) -> None:
    assert runs.folder(Path(path)) == Path(path)
