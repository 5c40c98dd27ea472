from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.scorers.watermark import Watermarks
from pipeline.tokenizer import emphasis
from pipeline.tokenizer.emphasis import EmphasisConfig, Finder, seen_in

PICTURE = np.zeros((40, 60, 3), np.uint8)


@pytest.mark.parametrize("flipped", [False, True])
@given(left=st.integers(0, 20), top=st.integers(0, 20), size=st.integers(16, 40))
def test_a_box_lies_in_the_square_and_mirroring_twice_brings_it_back(
    left: int, top: int, size: int, *, flipped: bool
) -> None:
    boxes = np.array([[5, 5, 25, 30], [0, 0, 60, 60]], np.float32)
    once = seen_in(boxes, (left, top, size), side=32, flipped=flipped)
    assert (once >= 0).all()
    assert (once <= 32).all()
    assert (once[:, :2] < once[:, 2:]).all()
    again = seen_in(once, (0, 0, 32), side=32, flipped=flipped)
    straight = seen_in(boxes, (left, top, size), side=32, flipped=False)
    assert np.allclose(again, straight, atol=1e-4)


def test_what_lies_outside_the_square_or_is_smaller_than_four_pixels_is_left_out() -> None:
    boxes = np.array([[50, 50, 60, 60], [2, 2, 5.9, 9], [2, 2, 6, 6]], np.float32)
    assert seen_in(boxes, (0, 0, 32), side=32, flipped=False).tolist() == [[2, 2, 6, 6]]


def test_a_picture_is_looked_at_once_by_every_detector_even_if_the_run_is_stopped(tmp_path: Path) -> None:
    looks = []

    def detect(picture: np.ndarray) -> np.ndarray:
        looks.append(picture.shape)
        return np.array([[0, 0, 9, 9]], np.float32)

    file = tmp_path / "boxes-0.jsonl"
    find = Finder(lambda: [detect, detect], {}, file)
    assert [find(uid, PICTURE).tolist() for uid in ("a", "a", "b")] == [[[0, 0, 9, 9]] * 2] * 3
    assert len(looks) == 4
    file.write_text(file.read_text() + '["c", [[0,')
    again = Finder(lambda: [detect, detect], emphasis.found_in(tmp_path), file)
    assert [again(uid, PICTURE).tolist() for uid in ("b", "a")] == [[[0, 0, 9, 9]] * 2] * 2
    assert len(looks) == 4
    again("c", PICTURE)
    assert len(looks) == 6
    assert emphasis.found_in(tmp_path).keys() == {"a", "b", "c"}


def test_words_have_the_upright_boxes_of_what_is_read() -> None:
    slanted = [[10, 4], [20, 6], [19, 12], [9, 10]]
    read = Watermarks(lambda _picture: ([(slanted, "exit", 0.9)], None))
    assert emphasis.words(read, PICTURE).tolist() == [[9, 4, 20, 12]]
    assert emphasis.words(Watermarks(lambda _picture: (None, None)), PICTURE).shape == (0, 4)


def test_nothing_is_looked_for_and_nothing_is_missing_by_default() -> None:
    assert emphasis.finder(EmphasisConfig()) is None
    assert emphasis.missing(EmphasisConfig()) == []


@pytest.mark.parametrize("name", ["faces", "text"])
def test_a_detector_that_is_not_here_is_told_with_how_to_get_it(name: str) -> None:
    found = emphasis.missing(EmphasisConfig.model_validate({name: True}))
    assert all(
        why.startswith(f"tokenizer.run.stream.emphasis.{name}: ") and "pip install" in why for why in found
    )
