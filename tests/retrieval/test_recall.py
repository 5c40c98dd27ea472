"""Laws of the numbers that accept an index and an encoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import recall
from retrieval.encoders import normalised


@given(seed=st.integers(0, 20), k=st.integers(1, 8))
def test_recall_ignores_order_and_counts_what_is_missing(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    exact_BK = np.stack([rng.permutation(50)[:k] for _ in range(6)])
    assert recall.recall(rng.permuted(exact_BK, axis=1), exact_BK) == 1.0
    missing_BK = exact_BK.copy()
    missing_BK[:, 0] += 100
    assert recall.recall(missing_BK, exact_BK) == pytest.approx((k - 1) / k)


def test_recall_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="same queries"):
        recall.recall(np.zeros((0, 5), np.int64), np.zeros((0, 5), np.int64))
    with pytest.raises(ValueError, match="same queries"):
        recall.recall(np.zeros((2, 5), np.int64), np.zeros((3, 5), np.int64))


def test_perfect_pairs_rank_first_and_points_that_coincide_rank_last() -> None:
    vectors_ND = np.eye(12, dtype=np.float32)
    perfect = recall.paired(vectors_ND, vectors_ND, at=(1,))
    assert (perfect.recall_at, perfect.median_rank, perfect.mean_reciprocal_rank) == ({1: 1.0}, 1.0, 1.0)
    collapsed = recall.paired(np.ones((12, 3), np.float32), np.ones((12, 3), np.float32), at=(1, 11, 12))
    assert collapsed.recall_at == {1: 0.0, 11: 0.0, 12: 1.0}
    assert collapsed.median_rank == 12


def test_unrelated_vectors_score_about_chance() -> None:
    rng = np.random.default_rng(0)
    texts_ND, images_ND = (normalised(rng.normal(size=(2500, 32))) for _ in range(2))
    found = recall.paired(texts_ND, images_ND, at=(250,))
    assert found.chance_at(250) == 0.1
    # 2,500 draws: three standard deviations are 0.018.
    assert found.recall_at[250] == pytest.approx(0.1, abs=0.018)
    assert found.median_rank == pytest.approx(1250, rel=0.1)


def test_ranks_do_not_depend_on_the_block() -> None:
    rng = np.random.default_rng(3)
    texts_ND = normalised(rng.normal(size=(1100, 16)))
    images_ND = normalised(texts_ND + 0.4 * rng.normal(size=(1100, 16)))
    scores_NN = texts_ND @ images_ND.T
    expected_N = (scores_NN > np.diag(scores_NN)[:, None]).sum(axis=1) + 1
    assert np.array_equal(recall.ranks(texts_ND, images_ND), expected_N)


def test_unpaired_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="one image a text"):
        recall.ranks(np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32))
