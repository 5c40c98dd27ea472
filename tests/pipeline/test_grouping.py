import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.likeness.grouping import KEEPER, Groups, connected, grouped, linked_elsewhere
from pipeline.likeness.signatures import Rows

MOST = 14
PAIRS = st.lists(st.tuples(st.integers(0, MOST - 1), st.integers(0, MOST - 1)), max_size=20)


def pairs(found: Sequence[tuple[int, int]]) -> Rows:
    """(row, row before it), sorted."""
    ordered = sorted({(max(pair), min(pair)) for pair in found if pair[0] != pair[1]})
    return np.array(ordered, np.int64).reshape(-1, 2)


def told(starts: Sequence[int], *passes: Sequence[tuple[int, int]], rank: Sequence[int] = ()) -> Groups:
    rank_N = np.array(rank or range(starts[-1]), np.int64)
    return grouped(starts, [pairs(found) for found in passes], rank_N)


def walked(edges: Rows, num: int) -> list[int]:
    """The least row that is reached from each, by walking."""
    reached = [{row} for row in range(num)]
    for _ in range(num):
        for one, two in edges.tolist():
            reached[one] |= reached[two]
            reached[two] |= reached[one]
    return [min(rows) for rows in reached]


@given(PAIRS)
def test_what_is_connected_has_the_least_row_that_a_walk_reaches(found: list[tuple[int, int]]) -> None:
    assert connected(pairs(found), MOST).tolist() == walked(pairs(found), MOST)


@given(st.integers(0, 99))
def test_a_long_path_in_any_order_is_one_component(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(200)
    assert not connected(np.stack([order[1:], order[:-1]], 1), 200).any()


@given(PAIRS, PAIRS)
def test_in_one_delivery_groups_are_the_components_of_all_passes(
    sure: list[tuple[int, int]], less: list[tuple[int, int]]
) -> None:
    groups = told((0, MOST), sure, less)
    assert groups.first_N.tolist() == walked(pairs([*sure, *less]), MOST)
    one = walked(pairs(sure), MOST)
    for row, keeper in enumerate(groups.keeper_N.tolist()):
        met = KEEPER if row == keeper else 0 if one[row] == one[keeper] else 1
        assert groups.pass_N[row] == met


CUTS = st.lists(st.integers(0, MOST), max_size=4).map(lambda cuts: (0, *sorted(cuts), MOST))


@given(PAIRS, PAIRS, CUTS, st.permutations(range(MOST)))
def test_what_comes_later_changes_nothing_that_was_told(
    sure: list[tuple[int, int]], less: list[tuple[int, int]], starts: tuple[int, ...], rank: list[int]
) -> None:
    after = told(starts, sure, less, rank=rank)
    for number in range(1, len(starts)):
        num = starts[number]
        before_passes = [pairs(found)[pairs(found)[:, 0] < num] for found in (sure, less)]
        before = grouped(starts[: number + 1], before_passes, np.array(rank[:num], np.int64))
        for name in ("first_N", "keeper_N", "pass_N"):
            assert np.array_equal(getattr(before, name), getattr(after, name)[:num])


@given(PAIRS, CUTS, st.permutations(range(MOST)))
def test_every_group_has_one_keeper_the_best_of_the_delivery_that_opened_it(
    found: list[tuple[int, int]], starts: tuple[int, ...], rank: list[int]
) -> None:
    groups = told(starts, found, rank=rank)
    of = np.searchsorted(starts, np.arange(MOST), side="right")
    for first in set(groups.first_N.tolist()):
        members = np.flatnonzero(groups.first_N == first)
        opening = [row for row in members.tolist() if of[row] == of[first]]
        (keeper,) = set(groups.keeper_N[members].tolist())
        assert keeper == min(opening, key=lambda row: rank[row])
        assert [row for row in members.tolist() if groups.pass_N[row] == KEEPER] == [keeper]


def test_a_newcomer_that_is_linked_to_two_groups_joins_the_first_seen_and_the_other_is_recorded() -> None:
    found = [(2, 0), (2, 1), (3, 2)]
    groups = told((0, 2, 4), found)
    assert groups.first_N.tolist() == [0, 1, 0, 0]
    assert groups.keeper_N.tolist() == [0, 1, 0, 0]
    assert linked_elsewhere(groups, [pairs(found)]).tolist() == [[2, 1]]


def test_the_surest_pass_decides_before_the_first_seen() -> None:
    groups = told((0, 2, 3), [(2, 1)], [(2, 0)])
    assert groups.first_N.tolist() == [0, 1, 1]
    assert groups.pass_N.tolist() == [KEEPER, KEEPER, 0]


def test_what_repeats_the_bytes_of_a_near_duplicate_is_a_near_duplicate_of_the_keeper() -> None:
    groups = told((0, 2, 3), [(2, 1)], [(1, 0)])
    assert groups.keeper_N.tolist() == [0, 0, 0]
    assert groups.pass_N.tolist() == [KEEPER, 1, 1]


@pytest.mark.parametrize("starts", [(0, 0), (0, 0, 1), (0, 1, 1)])
def test_a_delivery_may_bring_nothing(starts: tuple[int, ...]) -> None:
    assert told(starts, [], []).first_N.tolist() == list(range(starts[-1]))


def test_a_pair_is_found_wherever_the_deliveries_were_cut() -> None:
    for starts in itertools.chain([(0, 4)], [(0, cut, 4) for cut in range(5)]):
        assert told(starts, [(3, 1)]).first_N.tolist() == [0, 1, 2, 1]
