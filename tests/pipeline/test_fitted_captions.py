"""Of a corpus too large to read, the text tokenizer is fitted on captions by their hash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from infra.artifact import Artifact, Made, publish_artifact, publish_shard
from infra.corpus import EMPTY, Corpus
from infra.storage import Store
from pipeline import captions, schema, tables, tokens
from pipeline.build import Built
from pipeline.outcomes import KEPT
from pipeline.step import ROWS, Task, nothing_told
from pipeline.tokens import BPE, FORM_COLUMNS, TextConfig
from tests.pipeline.catalogs import stored

COLUMNS = pa.schema([*FORM_COLUMNS, schema.OUTCOME, schema.SPLIT])
CONFIG = TextConfig(entries=400)
SHARE = 0.25


def rows(numbers: range) -> pa.Table:
    """Each with words that no other has."""
    found = [
        {
            "uid": f"acme:{number}",
            "description": f"{captions.digest('words', number).hex()} " * 3,
            "keywords": [],
            "color": None,
            "may_derive": False,
            "outcome": "kept",
            "split": "train",
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(found, COLUMNS)


def fitted(store: Store, name: str, *parts: pa.Table, **facts: float) -> bytes:
    files = [stored(store, f"{name}-{number}", tables.to_parquet(part)) for number, part in enumerate(parts)]
    task = Task(slot="all", reads={"rows": tuple(files)}, facts=facts)
    return tokens.fit_text(task, nothing_told, config=CONFIG).files[BPE]


def test_a_share_is_of_those_whose_hash_is_small_whatever_shards_they_are_in(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    every = rows(range(200))
    small = [
        int.from_bytes(captions.digest("bpe", uid)[:8]) < SHARE * 2**64 for uid in every["uid"].to_pylist()
    ]
    assert 30 < sum(small) < 70
    found = fitted(store, "share", rows(range(150)), rows(range(150, 200)), share=SHARE)
    assert found == fitted(store, "plain", every.filter(pa.array(small)))
    assert found != fitted(store, "every", every)


@pytest.mark.parametrize(("kept", "facts"), [(20, {}), (80, {"share": SHARE})])
def test_how_many_are_left_out_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, facts: dict[str, float]
) -> None:
    monkeypatch.setattr(captions, "FITTED_ROWS", 20)
    corpus = Corpus(Store.at(tmp_path))
    made = Made(files={ROWS: b"rows"}, counts={KEPT: kept})
    shard = publish_shard(corpus.store, "split", "k", made)
    artifact = Artifact(step="split", key="k", settings={}, inputs={}, shards={"00000-000000": shard})
    publish_artifact(corpus.store, artifact)
    version = replace(EMPTY, artifacts={"split": "k"})
    (task,) = tokens.list_texts(Built(corpus=corpus, version=version))
    assert task.facts == facts
