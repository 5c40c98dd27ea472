"""Samples of an index's members, drawn a shard at a time, are those that all shards together give."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import captions, indexing, rows, schema, tables
from pipeline.step import Task, nothing_told
from retrieval import align, building, layouts, tuning
from retrieval.encoders import normalised
from retrieval.layouts import IndexConfig
from retrieval.segments import Floats
from tests.counted import Counted
from tests.pipeline.catalogs import catalog, stored

WIDTH = 12


def task_of(store: Counted, catalogs: Sequence[pa.Table]) -> Task:
    files, embedded = [], []
    for number, table in enumerate(catalogs):
        files.append(stored(store, f"{number}.parquet", tables.to_parquet(table)))
        num = rows.kept(files[-1]).num_rows
        sides = normalised(np.random.default_rng(number).normal(size=(2 * num, WIDTH))).astype(np.float16)
        vectors = {
            schema.IMAGE_VECTOR.name: tables.list_column(sides[:num]),
            schema.TEXT_VECTOR.name: tables.list_column(sides[num:]),
        }
        embedded.append(stored(store, f"{number}.arrow", tables.to_ipc(pa.table(vectors))))
    return Task(slot="00000", reads={"rows": tuple(files), "embeddings": tuple(embedded)})


def plainly(task: Task, wanted: int) -> tuple[Floats, Floats]:
    """With every row of every catalog at once."""
    every = [rows.kept(ref) for ref in task.reads["rows"]]
    eligible = [
        np.asarray(table["may_be_neighbor"]) & np.asarray(table["split"].to_numpy() == "train")
        for table in every
    ]
    hashes = [
        np.array(
            [int.from_bytes(captions.digest("lists", uid)[:8]) for uid in table["uid"].to_pylist()], np.uint64
        )
        for table in every
    ]
    among = np.sort(np.concatenate([one[mask] for one, mask in zip(hashes, eligible, strict=True)]))
    most = among[min(wanted, len(among)) - 1] if len(among) else 0
    sides = [indexing.sides_of(ref) for ref in task.reads["embeddings"]]
    masks = [mask & (one <= most) for one, mask in zip(hashes, eligible, strict=True)]
    images, texts = (
        np.concatenate(
            [both[side][mask] for both, mask in zip(sides, masks, strict=True) if len(mask)] or [np.zeros(0)]
        )
        for side in (0, 1)
    )
    return images, texts


@pytest.fixture
def store(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


@pytest.mark.parametrize("sizes", [(40,), (900, 0, 700, 30, 1200), (5, 5)], ids=str)
@pytest.mark.parametrize("kind", ["flat", "ivf_flat"])
def test_lists_and_probes_are_byte_for_byte_those_of_the_whole_catalog(
    store: Counted, sizes: tuple[int, ...], kind: layouts.Kind
) -> None:
    task = task_of(store, [catalog(shard, num) for shard, num in enumerate(sizes)])
    config = IndexConfig(kind=kind)
    found = indexing.fit_lists(task, nothing_told, config=config)
    kept = [rows.kept(ref) for ref in task.reads["rows"]]
    num = sum(sum(table["may_be_neighbor"].to_pylist()) for table in kept)
    points = building.points(layouts.chosen(num, WIDTH, config))
    sample = align.document_vectors(*plainly(task, max(1, points)))
    assert found.files[indexing.LISTS] == building.train(sample, config, num=num)
    assert found.facts == {"members": num, "segments": 1, "kept": sum(len(table) for table in kept)}
    asked = indexing.probe(task, nothing_told)
    queries = np.load(io.BytesIO(asked.files[indexing.QUERIES]))
    assert np.array_equal(queries, tuning.sampled(*plainly(task, tuning.QUERIES)))
    assert asked.counts == {"kept": found.facts["kept"]}


@pytest.mark.parametrize("wanted", [1, 7, 100, 10_000])
def test_the_rows_chosen_are_the_smallest_of_all_in_their_order(store: Counted, wanted: int) -> None:
    task = task_of(store, [catalog(shard, num) for shard, num in enumerate((50, 0, 300, 1, 200))])
    chosen, _ = indexing.smallest(task.reads["rows"], wanted)
    found = [np.concatenate(side) for side in zip(*indexing.drawn(task, chosen), strict=True)]
    expected = plainly(task, wanted)
    assert [side.tobytes() for side in found] == [side.tobytes() for side in expected]
    eligible = len(plainly(task, 10_000)[0])
    assert len(found[0]) == min(wanted, eligible)
    assert 100 < eligible < 551 * 0.6


def test_where_no_member_is_in_the_training_split_nothing_is_drawn(store: Counted) -> None:
    task = task_of(store, [catalog(0, 0), catalog(1, 9).set_column(3, schema.SPLIT, [["validation"] * 9])])
    found = indexing.probe(task, nothing_told)
    assert np.load(io.BytesIO(found.files[indexing.QUERIES])).shape == (0, WIDTH)
    assert found.counts["kept"] > 0


def test_of_embeddings_only_those_are_read_that_hold_a_row_chosen(store: Counted) -> None:
    task = task_of(store, [catalog(shard, 60) for shard in range(20)])
    store.asked.clear()
    chosen, _ = indexing.smallest(task.reads["rows"], 2)
    assert store.asked["get"] == 20
    list(indexing.drawn(task, chosen))
    assert 1 <= store.asked["get"] - 20 <= 2


PLACES = st.lists(st.lists(st.integers(0, 20), max_size=12), max_size=8)


@given(PLACES, st.integers(1, 30))
def test_the_lowest_of_what_comes_bit_by_bit_are_the_lowest_of_all_with_their_ties(
    files: list[list[int]], wanted: int
) -> None:
    lowest = indexing.Lowest(wanted)
    for number, hashes in enumerate(files):
        seen = np.zeros(len(hashes), indexing.SEEN)
        seen["hash"], seen["file"], seen["row"] = hashes, number, np.arange(len(hashes))
        lowest.add(seen)
    every = [(one, file, row) for file, hashes in enumerate(files) for row, one in enumerate(hashes)]
    most = sorted(one for one, _, _ in every)[:wanted][-1] if every else 0
    assert lowest.found().tolist() == [one for one in every if one[0] <= most]


def test_few_more_rows_are_held_than_are_wanted() -> None:
    lowest, rng = indexing.Lowest(100), np.random.default_rng(0)
    for number in range(500):
        seen = np.zeros(50, indexing.SEEN)
        seen["hash"], seen["file"] = rng.integers(0, 2**63, 50), number
        lowest.add(seen)
        assert sum(map(len, lowest.held)) <= 200
    assert len(lowest.found()) == 100
