from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.colors import Pixels
from tokenizer_service import metrics
from trainer.evaluation import pictures
from trainer.instruct.scenes import Box
from trainer.marks import Marks, near_duplicates


def noise(seed: int, side: int = 32) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def line(column: int, side: int = 256) -> Pixels:
    drawn = np.zeros((side, side, 3), np.uint8)
    drawn[:, column] = 255
    return drawn


def test_psnr_is_that_of_the_tokenizers_page_and_100_for_the_truth() -> None:
    one, two = noise(0), noise(1)
    assert pictures.psnr(one, two) == pytest.approx(float(metrics.psnr_each(one[None], two[None])[0]))
    assert pictures.psnr(one, one) == 100.0


def test_psnr_of_a_region_looks_nowhere_else() -> None:
    one = noise(0)
    two, mask = one.copy(), np.zeros((32, 32), np.bool_)
    two[:4] = 0
    mask[8:16] = True
    assert pictures.psnr(one, two, mask) == 100.0
    assert pictures.psnr(one, two, ~mask) < 30.0


def test_edges_are_met_within_two_pixels_of_the_grid() -> None:
    true = line(100)
    assert pictures.edge_f1(true, true) == 1.0
    assert pictures.edge_f1(line(102), true) == 1.0
    assert pictures.edge_f1(line(103), true) == 0.0
    # At 64 px two pixels of the grid are half a one; one is the least.
    assert pictures.edge_f1(line(31, 64), line(30, 64)) == 1.0
    assert pictures.edge_f1(line(32, 64), line(30, 64)) == 0.0


def test_half_of_the_edges_found_is_a_recall_of_a_half() -> None:
    both = np.maximum(line(50), line(200))
    assert pictures.edge_f1(line(50), both) == pytest.approx(2 * 1.0 * 0.5 / 1.5)


def test_no_edges_are_right_only_where_there_are_none() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    assert pictures.edge_f1(black, black) == 1.0
    assert pictures.edge_f1(black, line(3, 64)) == 0.0


def test_all_edges_at_once_are_as_one_by_one_where_there_are_none_too() -> None:
    some = np.stack([np.where(noise(seed, 64) > 250, 255, 0) for seed in range(3)]).astype(np.uint8)
    others = np.stack([np.where(noise(seed, 64) > 245, 255, 0) for seed in range(3, 7)]).astype(np.uint8)
    some[1] = others[2] = 0
    assert pictures.edge_f1_each(some, others)[1].tolist() == [0.0, 0.0, 1.0, 0.0]
    found = pictures.edge_f1_each(some, others)
    assert found == pytest.approx(np.array([[pictures.edge_f1(a, b) for b in others] for a in some]))


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=4))
def test_boxes_hit_themselves_whatever_their_order(corners: list[tuple[int, int]]) -> None:
    boxes = [Box(x, y, x + 40, y + 40) for x, y in corners]
    assert pictures.hit_rate(boxes, boxes[::-1]) == 1.0
    assert pictures.best_ious(boxes, []) == [0.0] * len(boxes)


def test_one_thing_hits_one_box() -> None:
    box, near = Box(0, 0, 100, 100), Box(10, 0, 110, 100)
    assert pictures.best_ious([box, near], [box]) == [1.0, 0.0]
    assert pictures.hit_rate([box, Box(150, 150, 250, 250)], [near]) == 0.5


def disc(column: int, color: tuple[int, int, int]) -> Pixels:
    y, x = np.mgrid[:64, :64]
    drawn = np.full((64, 64, 3), 255, np.uint8)
    drawn[(y - 32) ** 2 + (x - column) ** 2 < 200] = color
    return drawn


def test_a_picture_again_is_a_near_duplicate_and_another_is_not() -> None:
    known = [disc(32, (200, 30, 30)), noise(5, 64)]
    again = np.clip(known[0].astype(int) + 2, 0, 255).astype(np.uint8)
    found = near_duplicates([again, noise(9, 64), disc(12, (30, 30, 200))], Marks.of(known))
    assert found.tolist() == [True, False, False]
