"""The images that the tokenizer is fitted on are the first by hash, whatever shards they are in."""

from __future__ import annotations

import heapq
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline import archive, captions, rows, tables
from pipeline.encoding import square
from pipeline.step import Task
from pipeline.tokens import ImageConfig, training_keys, training_squares
from tests.counted import Counted
from tests.pipeline.catalogs import catalog, stored

SIDE = 8


def jpeg(key: str) -> bytes:
    pixels = np.random.default_rng(list(key.encode())).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG")
    return sink.getvalue()


def task_of(store: Counted, sizes: tuple[int, ...]) -> Task:
    files, tars = [], []
    for number, size in enumerate(sizes):
        table = catalog(number, size)
        files.append(stored(store, f"{number}.parquet", tables.to_parquet(table)))
        samples = [(key, jpeg(key), {}, "a caption") for key in table["key"].to_pylist()]
        tars.append(stored(store, f"{number}.tar", archive.write(samples)))
    return Task(slot="all", reads={"rows": tuple(files), "images": tuple(tars)})


def plainly(task: Task, config: ImageConfig) -> NDArray[np.uint8]:
    """With every row of the corpus at once, and every tar opened."""
    images: dict[str, bytes] = {}
    for ref, tar in zip(task.reads["rows"], task.reads["images"], strict=True):
        table = rows.with_images(rows.training(ref), tar)
        images |= dict(zip(table["uid"].to_pylist(), table["image"].to_pylist(), strict=True))
    chosen = heapq.nsmallest(config.max_images, images, key=lambda uid: captions.digest("vq", uid))
    return np.stack([square(images[uid], config.side, config.fit.vq.preprocessing) for uid in chosen])


@pytest.mark.parametrize("max_images", [1, 5, 12, 1000])
def test_squares_are_byte_for_byte_those_that_all_tables_together_give(
    tmp_path: Path, max_images: int
) -> None:
    task = task_of(Counted(tmp_path), (20, 0, 33, 1, 40))
    config = ImageConfig(side=SIDE, max_images=max_images)
    found = training_squares(task, config)
    assert np.array_equal(found, plainly(task, config))
    assert len(found) == min(max_images, sum(rows.training(ref).num_rows for ref in task.reads["rows"]))


def test_no_tar_is_opened_of_which_nothing_was_chosen(tmp_path: Path) -> None:
    store = Counted(tmp_path)
    task = task_of(store, (12,) * 8)
    chosen = {shard for _, shard, _ in training_keys(task.reads["rows"], 3)}
    for shard in set(range(8)) - chosen:
        del store.objects[f"{shard}.tar"]
    assert 1 <= len(chosen) <= 3
    assert len(training_squares(task, ImageConfig(side=SIDE, max_images=3))) == 3


def test_a_corpus_without_a_training_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training image is left"):
        training_squares(task_of(Counted(tmp_path), (0, 0)), ImageConfig(side=SIDE))
