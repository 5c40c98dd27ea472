from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.likeness.meetings import CROWD, FIRST, PASSED_OVER, first_met, ranges

NUMS = st.lists(st.integers(0, 12) | st.integers(CROWD - 1, CROWD + 3), max_size=12)


@given(NUMS, st.sampled_from([1, 7, 100_000]))
def test_each_meets_its_range_or_the_first_and_the_last_of_a_crowd(nums: list[int], block: int) -> None:
    counts: Counter[str] = Counter()
    firsts = [1000 * row for row in range(len(nums))]
    met = list(ranges(np.array(firsts, np.int64), np.array(nums, np.int64), counts, block=block))
    told = [pair for rows, places in met for pair in zip(rows.tolist(), places.tolist(), strict=True)]
    wanted = []
    for row, (first, num) in enumerate(zip(firsts, nums, strict=True)):
        places = range(num)
        if num > CROWD:
            places = [*range(FIRST), *range(num - CROWD + FIRST, num)]
        wanted += [(row, first + place) for place in places]
    assert told == wanted
    assert counts[PASSED_OVER] == sum(nums) - len(wanted)


@pytest.mark.parametrize("size", [1, 2, 5, 99])
def test_a_row_meets_so_many_in_all_however_they_come(size: int) -> None:
    pairs = np.array([(row, before) for row in range(6) for before in range(row)], np.int64)
    num_met, counts = np.zeros(6, np.int64), Counter[str]()
    parts = [pairs[at : at + size] for at in range(0, len(pairs), size)]
    told = np.concatenate([first_met(part, num_met, counts, most=3) for part in parts])
    assert told.tolist() == [[row, before] for row in range(6) for before in range(min(row, 3))]
    assert counts[PASSED_OVER] == 1 + 2
    assert num_met.tolist() == [0, 1, 2, 3, 4, 5]
