from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.brushed import on_grid, to_draw
from trainer.sampler import DRAWN


@given(
    places=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 17)), max_size=5),
    grid=st.sampled_from([2, 3]),
)
def test_a_token_is_brushed_where_one_of_its_pixels_is(places: set[tuple[int, int]], grid: int) -> None:
    mask_HW = np.zeros((12, 18), np.bool_)
    for y, x in places:
        mask_HW[y, x] = True
    down, across = 12 // grid, 18 // grid
    expected = [
        bool(mask_HW[row * down : (row + 1) * down, column * across : (column + 1) * across].any())
        for row in range(grid)
        for column in range(grid)
    ]
    assert on_grid(mask_HW, grid).tolist() == expected


@given(brushed=st.lists(st.booleans(), min_size=1, max_size=12).filter(any))
def test_what_is_drawn_is_the_smallest_run_around_the_brush_and_the_rest_of_it_is_given(
    brushed: list[bool],
) -> None:
    image = tuple(range(100, 100 + len(brushed)))
    start, stop, given_ids = to_draw(image, np.array(brushed))
    assert brushed[start]
    assert brushed[stop - 1]
    assert not any(brushed[:start] + brushed[stop:])
    assert given_ids == tuple(DRAWN if brushed[i] else image[i] for i in range(start, stop))


def test_a_mask_that_brushes_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="the mask brushes nothing"):
        to_draw((100, 101), np.zeros(2, np.bool_))
