from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import numerics
from pipeline.likeness import semantic
from pipeline.likeness.grouping import connected
from pipeline.likeness.pieces import Pieces
from retrieval.encoders import normalised

NUM, WIDTH, THRESHOLD = 1500, 24, 0.95


def clustered(seed: int = 0, num: int = NUM) -> NDArray[np.float32]:
    """Forty directions, a cloud around each, and every tenth row a copy with little noise."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 1, (40, WIDTH))
    found = centers[rng.integers(0, 40, num)] + rng.normal(0, 0.6, (num, WIDTH))
    copies = np.arange(0, num, 10)
    found[copies] = found[copies - 1] + rng.normal(0, 0.05, (len(copies), WIDTH))
    return normalised(found)


def exact(vectors_ND: NDArray[np.float32]) -> set[tuple[int, int]]:
    late, early = np.nonzero(np.tril(vectors_ND.astype(np.float64) @ vectors_ND.T >= THRESHOLD, -1))
    return set(zip(late.tolist(), early.tolist(), strict=True))


def found(vectors_ND: NDArray[np.float32], *cuts: int, few: int = semantic.FEW) -> set[tuple[int, int]]:
    pairs = semantic.pairs(vectors_ND, (0, *cuts, len(vectors_ND)), THRESHOLD, few=few)
    return {(late, early) for late, early in pairs.tolist()}


def firsts(pairs: set[tuple[int, int]], num: int = NUM) -> list[int]:
    """Of each row the first that it is connected with."""
    first: list[int] = connected(np.array(sorted(pairs), np.int64).reshape(-1, 2), num).tolist()
    return first


@pytest.fixture(autouse=True)
def one_thread() -> None:
    numerics.use_threads(1)


@pytest.mark.parametrize("cuts", [(), (400, 401, 1200)])
def test_few_rows_are_compared_each_with_each(cuts: tuple[int, ...]) -> None:
    told, wanted = found(clustered(), *cuts), exact(clustered())
    assert told <= wanted
    assert firsts(told) == firsts(wanted)


CLUSTERED = 100
"""So few rows are already clustered."""


@pytest.mark.parametrize("cuts", [(), (300, 700, 1400)])
def test_within_clusters_nearly_all_pairs_are_found_and_no_other(cuts: tuple[int, ...]) -> None:
    wanted, told = exact(clustered()), found(clustered(), *cuts, few=CLUSTERED)
    assert told <= wanted
    first = firsts(told)
    assert sum(first[late] == first[early] for late, early in wanted) >= 0.98 * len(wanted) > 100


def test_a_later_delivery_changes_no_pair_found_before_it() -> None:
    vectors_ND = clustered()
    whole = found(vectors_ND, 200, 300, 900, few=CLUSTERED)
    for stop, cuts in ((200, ()), (300, (200,)), (900, (200, 300))):
        told = found(vectors_ND[:stop], *cuts, few=CLUSTERED)
        assert told == {pair for pair in whole if pair[0] < stop}


@pytest.mark.parametrize("threads", [2, 4])
def test_the_same_rows_give_the_same_pairs_on_any_number_of_threads(threads: int) -> None:
    once = found(clustered(), 500, few=CLUSTERED)
    numerics.use_threads(threads)
    assert found(clustered(), 500, few=CLUSTERED) == once
    numerics.use_threads(1)


@pytest.mark.long
@pytest.mark.parametrize("few", [CLUSTERED, semantic.FEW])
def test_of_a_series_of_one_subject_few_rows_are_entered(few: int) -> None:
    rng = np.random.default_rng(0)
    vectors_ND = normalised((rng.normal(size=WIDTH) + rng.normal(0, 0.05, (2000, WIDTH))).astype(np.float32))
    pieces = Pieces.after((0, 2000), np.zeros((0, 2), np.int64), Counter())
    pairs = semantic.pairs(vectors_ND, (0, 2000), THRESHOLD, pieces=pieces, few=few)
    assert len(pairs) == 1999
    assert not connected(pairs, 2000).any()
    assert pieces.counts[semantic.LEFT_OUT] >= 2000 - 4 * semantic.MOST


def test_a_row_without_direction_is_like_nothing() -> None:
    vectors_ND = np.concatenate([np.zeros((2, WIDTH), np.float32), clustered(num=3)[[1, 1]]])
    assert found(vectors_ND) == {(3, 2)}


@pytest.mark.parametrize("num", [0, 1])
def test_no_row_and_one_row_have_no_pairs(num: int) -> None:
    assert found(clustered()[:num]) == set()
