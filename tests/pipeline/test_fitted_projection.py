"""The projection is fitted on the training rows of all shards, of which one is in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.storage import Store
from pipeline import captions, embed, rows, schema, tables
from pipeline.embed import AlignConfig
from pipeline.step import Task, nothing_told
from retrieval import align
from retrieval.align import Floats, Projection
from tests.counted import Counted
from tests.pipeline.catalogs import catalog, stored

FEATURES, TEXTS = 40, 12


def featured(shard: int, table: pa.Table, features: int = FEATURES) -> pa.Table:
    """Of all rows, those refused later too; in another order than the catalog's."""
    uids = table["uid"].to_pylist()[::-1]
    rng = np.random.default_rng([7, shard])
    truth = np.random.default_rng(99).normal(size=(features, TEXTS))
    images = rng.normal(size=(len(uids), features)).astype(np.float32)
    texts = (images @ truth + 30 * rng.normal(size=(len(uids), TEXTS))).astype(np.float32)
    columns = [pa.array(uids), tables.list_column(images), tables.list_column(texts)]
    return pa.table(columns, schema=pa.schema([schema.UID, schema.IMAGE_FEATURES, schema.TEXT_FEATURES]))


def task_of(store: Store, sizes: Sequence[int], features: int = FEATURES) -> Task:
    files, found = [], []
    for number, size in enumerate(sizes):
        table = catalog(number, size)
        files.append(stored(store, f"{number}.parquet", tables.to_parquet(table)))
        data = tables.to_ipc(featured(number, table, features))
        found.append(stored(store, f"{number}.arrow", data))
    return Task(slot="all", reads={"rows": tuple(files), "features": tuple(found)})


def fitted(task: Task, *, trained: bool = True, ridge: float | None = None) -> tuple[Projection, int]:
    made = embed.fit_projection(task, nothing_told, config=AlignConfig(ridge=ridge), trained=trained)
    return Projection.of(made.files[embed.PROJECTION]), made.facts["pairs"]


def sides(found: pa.Table) -> tuple[Floats, Floats]:
    return embed.matrix(found["image_features"]), embed.matrix(found["text_features"])


@pytest.mark.parametrize("ridge", [None, 0.5])
def test_shard_by_shard_it_is_what_all_training_rows_at_once_give(
    tmp_path: Path, ridge: float | None
) -> None:
    task = task_of(Counted(tmp_path), (300, 0, 2, 500, 1))
    found, pairs = fitted(task, ridge=ridge)
    wanted = pa.concat_tables([rows.training(ref) for ref in task.reads["rows"]])
    every = pa.concat_tables([tables.read_ipc(ref) for ref in task.reads["features"]])
    images, texts = sides(embed.of_rows(wanted, every))
    whole = align.Regression(ridge=ridge)
    hashes = [captions.digest("align", uid)[:8] for uid in wanted["uid"].to_pylist()]
    whole.add(images, texts, np.array([int.from_bytes(one) for one in hashes], np.uint64))
    expected = whole.projection()
    assert pairs == len(images) > 200
    assert np.abs(found.weight - expected.weight).max() < 1e-6 * np.abs(expected.weight).max()
    assert np.abs(found.mean - images.mean(axis=0)).max() < 1e-6
    if ridge is not None:
        other, _ = fitted(task, ridge=2 * ridge)
        assert np.abs(found.weight - other.weight).max() > 1e-3 * np.abs(expected.weight).max()


def test_an_encoder_whose_sides_share_a_space_gets_the_identity(tmp_path: Path) -> None:
    store = Counted(tmp_path)
    task = task_of(store, (0, 50, 80))
    store.objects["2.arrow"] = b"is not looked at"
    found, pairs = fitted(task, trained=False)
    assert found.to_bytes() == align.identity(TEXTS).to_bytes()
    assert pairs == sum(rows.training(ref).num_rows for ref in task.reads["rows"])


def most_held(task: Task) -> int:
    tracemalloc.start()
    fitted(task, ridge=1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_is_of_one_shard_however_many_there_are(tmp_path: Path) -> None:
    few, many = (task_of(Store.at(tmp_path / str(num)), (1000,) * num, features=64) for num in (3, 30))
    most_held(few)  # what is made once a process
    assert most_held(many) < 1.2 * most_held(few)


def test_of_too_many_pairs_a_share_is_looked_at_by_hash(tmp_path: Path) -> None:
    task = task_of(Counted(tmp_path), (300, 1, 400))
    found, pairs = fitted(replace(task, facts={"share": 0.5}), ridge=0.5)
    every, all_pairs = fitted(task, ridge=0.5)
    assert 0.35 * all_pairs < pairs < 0.65 * all_pairs
    images, texts = [], []
    for ref, features in zip(task.reads["rows"], task.reads["features"], strict=True):
        wanted = rows.training(ref)
        small = [
            int.from_bytes(captions.digest("align", uid)[:8]) < 2**63 for uid in wanted["uid"].to_pylist()
        ]
        one = sides(embed.of_rows(wanted.filter(pa.array(small, pa.bool_())), tables.read_ipc(features)))
        images.append(one[0].reshape(-1, FEATURES))
        texts.append(one[1].reshape(-1, TEXTS))
    plain = align.Regression(ridge=0.5)
    plain.add(np.concatenate(images), np.concatenate(texts), np.zeros(pairs, np.uint64))
    assert np.abs(found.weight - plain.projection().weight).max() < 1e-5
    assert np.abs(found.weight - every.weight).max() > 1e-3
