"""Laws of pieces: what is not judged would have changed nothing."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.likeness.grouping import connected, grouped, linked_elsewhere
from pipeline.likeness.pieces import JUDGED, Pieces
from pipeline.likeness.signatures import Rows

NUM = 14
PAIRS = st.sets(st.tuples(st.integers(0, NUM - 1), st.integers(0, NUM - 1)), max_size=40)
CUTS = st.lists(st.integers(0, NUM), max_size=4).map(lambda cuts: (0, *sorted(cuts), NUM))
NOTHING = np.zeros((0, 2), np.int64)


def ordered(found: set[tuple[int, int]]) -> Rows:
    rows = sorted({(max(pair), min(pair)) for pair in found if pair[0] != pair[1]})
    return np.array(rows, np.int64).reshape(-1, 2)


def judged(pieces: Pieces, alike_P2: Rows, seed: int) -> Rows:
    """All pairs of rows, in any order and in blocks, of which some are alike."""
    rng = np.random.default_rng(seed)
    all_P2 = rng.permutation(np.stack(np.tril_indices(NUM, -1), 1))
    is_alike = np.zeros((NUM, NUM), np.bool_)
    is_alike[alike_P2[:, 0], alike_P2[:, 1]] = True
    blocks = np.array_split(all_P2, rng.integers(1, 9))
    found = np.concatenate(
        [pieces.judged(some, lambda pairs: is_alike[pairs[:, 0], pairs[:, 1]]) for some in blocks]
    )
    return np.unique(found, axis=0)


@given(PAIRS, PAIRS, CUTS, st.permutations(range(NUM)), st.integers(0, 2**32))
def test_groups_links_and_passes_are_those_of_all_pairs(
    near: set[tuple[int, int]],
    like: set[tuple[int, int]],
    starts: tuple[int, ...],
    rank: list[int],
    seed: int,
) -> None:
    passes = [ordered(near), ordered(like)]
    near_P2 = judged(Pieces.after(starts, NOTHING, Counter()), passes[0], seed)
    few = [near_P2, judged(Pieces.after(starts, near_P2, Counter()), passes[1], seed)]
    told, wanted = (grouped(starts, some, np.array(rank)) for some in (few, passes))
    for name in ("first_N", "keeper_N", "pass_N"):
        assert np.array_equal(getattr(told, name), getattr(wanted, name)), name
    assert np.array_equal(linked_elsewhere(told, few), linked_elsewhere(wanted, passes))


def everything(pairs_P2: Rows) -> NDArray[np.bool_]:
    return np.ones(len(pairs_P2), np.bool_)


def test_of_copies_in_one_delivery_each_is_compared_once() -> None:
    pieces = Pieces.after((0, 100), NOTHING, Counter())
    pairs = pieces.judged(np.stack(np.tril_indices(100, -1), 1), everything)
    assert pieces.counts[JUDGED] == len(pairs) == 99
    assert not connected(pairs, 100).any()


def test_a_row_is_linked_to_each_piece_of_an_earlier_delivery_once() -> None:
    pieces = Pieces.after((0, 4, 7), np.array([[1, 0], [3, 2]]), Counter())
    pairs = pieces.judged(np.array([(late, early) for late in (4, 5, 6) for early in range(4)]), everything)
    assert sorted(pairs.tolist()) == [[late, early] for late in (4, 5, 6) for early in (0, 2)]


def test_what_is_not_alike_is_compared_all_the_same() -> None:
    pieces = Pieces.after((0, 20), NOTHING, Counter())
    pairs = pieces.judged(np.stack(np.tril_indices(20, -1), 1), lambda some: ~everything(some))
    assert (len(pairs), pieces.counts[JUDGED]) == (0, 190)
