"""Laws of the projection: a linear truth is found, units don't matter, only the pairs given are looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import align, recall
from retrieval.align import Floats, Projection
from retrieval.encoders import normalised

FEATURES, TEXTS = 24, 6


def linear_pairs(num: int, *, seed: int, noise: float = 0.0) -> tuple[Floats, Floats]:
    """Texts are a fixed linear function of the features, plus noise."""
    truth_FD = np.random.default_rng(99).normal(size=(FEATURES, TEXTS))
    rng = np.random.default_rng(seed)
    features_NF = rng.normal(2.0, 3.0, (num, FEATURES))
    texts_ND = features_NF @ truth_FD + noise * rng.normal(size=(num, TEXTS)) + 5
    return features_NF.astype(np.float32), texts_ND.astype(np.float32)


def test_a_linear_truth_is_found_on_pairs_never_seen() -> None:
    projection = align.fit(*linear_pairs(500, seed=0), ridge=1e-6)
    features_NF, texts_ND = linear_pairs(200, seed=1)
    cosines_N = (projection.images(features_NF) * projection.texts(texts_ND)).sum(axis=1)
    assert cosines_N.min() > 0.9999


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_the_units_of_a_feature_do_not_matter(scale: float, shift: float) -> None:
    features_NF, texts_ND = linear_pairs(60, seed=0, noise=1.0)
    moved_NF = (features_NF.astype(np.float64) * scale + shift).astype(np.float32)
    one = align.fit(features_NF, texts_ND, ridge=0.1).images(features_NF)
    other = align.fit(moved_NF, texts_ND, ridge=0.1).images(moved_NF)
    assert np.abs(one - other).max() < 2e-3


def test_the_number_of_pairs_does_not_change_what_a_ridge_means() -> None:
    features_NF, texts_ND = linear_pairs(80, seed=0, noise=2.0)
    once = align.fit(features_NF, texts_ND, ridge=0.5)
    thrice = align.fit(np.tile(features_NF, (3, 1)), np.tile(texts_ND, (3, 1)), ridge=0.5)
    assert np.abs(once.weight - thrice.weight).max() < 1e-4


def test_the_ridge_is_the_one_that_judges_best_and_noise_asks_for_more_of_it() -> None:
    clean, noisy = linear_pairs(200, seed=0), linear_pairs(200, seed=0, noise=60.0)
    judgements = align.judge_ridges(*noisy)
    assert list(judgements) == list(align.RIDGES)
    best = max(judgements, key=lambda ridge: judgements[ridge])
    assert align.fit(*noisy).fingerprint == align.fit(*noisy, ridge=best).fingerprint
    assert best > align.RIDGES[0]
    assert align.judge_ridges(*clean)[align.RIDGES[0]] == 1.0


def test_a_fitted_projection_finds_held_out_pairs_far_above_chance() -> None:
    features_NF, texts_ND = linear_pairs(700, seed=0, noise=3.0)
    projection = align.fit(features_NF[:500], texts_ND[:500])
    found = recall.paired(projection.texts(texts_ND[500:]), projection.images(features_NF[500:]), at=(1,))
    assert found.recall_at[1] > 50 * found.chance_at(1)


def test_a_feature_that_never_varies_is_harmless() -> None:
    features_NF, texts_ND = linear_pairs(50, seed=0)
    features_NF[:, 3] = 7.0
    projection = align.fit(features_NF, texts_ND, ridge=0.1)
    assert np.isfinite(projection.weight).all()
    assert np.abs(projection.weight[3]).max() == 0


def test_blocks_add_up_to_the_whole() -> None:
    features_NF, texts_ND = linear_pairs(9000, seed=0, noise=1.0)
    x_NF = (features_NF - features_NF.mean(axis=0, dtype=np.float64)) / features_NF.std(
        axis=0, dtype=np.float64
    )
    y_ND = texts_ND - texts_ND.mean(axis=0, dtype=np.float64)
    weight_FD = np.linalg.solve(x_NF.T @ x_NF / 9000 + 0.3 * np.eye(FEATURES), x_NF.T @ y_ND / 9000)
    assert np.abs(align.fit(features_NF, texts_ND, ridge=0.3).weight - weight_FD).max() < 1e-5


@given(rows=st.integers(0, 9))
def test_both_sides_have_unit_length_whatever_the_batch(rows: int) -> None:
    features_NF, texts_ND = linear_pairs(40, seed=0, noise=1.0)
    projection = align.fit(features_NF, texts_ND, ridge=0.1)
    for side, given_BX in ((projection.images, features_NF), (projection.texts, texts_ND)):
        vectors_BD = side(given_BX[:rows])
        assert vectors_BD.shape == (rows, TEXTS)
        assert vectors_BD.dtype == np.float32
        assert np.abs(np.linalg.norm(vectors_BD, axis=1) - 1).max(initial=0) < 1e-6
        assert np.array_equal(vectors_BD, side(given_BX)[:rows])


def test_the_identity_only_normalises() -> None:
    vectors_BD = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    identity = align.identity(9)
    assert np.array_equal(identity.images(vectors_BD), normalised(vectors_BD))
    assert np.array_equal(identity.texts(vectors_BD), normalised(vectors_BD))


def test_bytes_come_back_as_the_same_projection() -> None:
    projection = align.fit(*linear_pairs(50, seed=0), ridge=0.1)
    again = Projection.of(projection.to_bytes())
    assert again.to_bytes() == projection.to_bytes()
    assert again.fingerprint == projection.fingerprint
    assert again.fingerprint != align.fit(*linear_pairs(50, seed=1), ridge=0.1).fingerprint
    assert np.array_equal(again.weight, projection.weight)


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    good = align.identity(4)
    wrong = Projection(mean=good.mean, scale=good.scale, weight=good.weight[:, :3], center=good.center)
    with pytest.raises(ValueError, match="shapes disagree"):
        Projection.of(wrong.to_bytes())
    with pytest.raises(ValueError, match=r"must be \[B, 4\]"):
        good.images(np.zeros((2, 5), np.float32))


@pytest.mark.parametrize(
    ("num_features", "num_texts", "ridge", "message"),
    [(1, 1, 0.1, "two pairs"), (5, 4, 0.1, "two pairs"), (5, 5, 0.0, "positive"), (5, 5, None, "too few")],
)
def test_pairs_that_cannot_be_fitted_are_refused(
    num_features: int, num_texts: int, ridge: float | None, message: str
) -> None:
    features_NF, texts_ND = linear_pairs(5, seed=0)
    with pytest.raises(ValueError, match=message):
        align.fit(features_NF[:num_features], texts_ND[:num_texts], ridge=ridge)


def test_a_document_lies_halfway_between_its_sides() -> None:
    rng = np.random.default_rng(0)
    images_BD, texts_BD = (
        rng.normal(size=(6, 5)).astype(np.float32),
        rng.normal(size=(6, 5)).astype(np.float32),
    )
    documents_BD = align.document_vectors(images_BD, 10 * texts_BD)
    to_image, to_text = (
        (documents_BD * normalised(side_BD)).sum(axis=1) for side_BD in (images_BD, texts_BD)
    )
    assert np.abs(np.linalg.norm(documents_BD, axis=1) - 1).max() < 1e-6
    assert np.abs(to_image - to_text).max() < 1e-6
    assert not align.document_vectors(images_BD, -images_BD).any()
