"""Laws of the projection: a linear truth is found, units don't matter, only the pairs given are looked at."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import align, recall
from retrieval.align import Floats, Places, Projection, Regression
from retrieval.encoders import normalised

FEATURES, TEXTS = 24, 6


def linear_pairs(num: int, *, seed: int, noise: float = 0.0) -> tuple[Floats, Floats]:
    """Texts are a fixed linear function of the features, plus noise."""
    truth_FD = np.random.default_rng(99).normal(size=(FEATURES, TEXTS))
    rng = np.random.default_rng(seed)
    features_NF = rng.normal(2.0, 3.0, (num, FEATURES))
    texts_ND = features_NF @ truth_FD + noise * rng.normal(size=(num, TEXTS)) + 5
    return features_NF.astype(np.float32), texts_ND.astype(np.float32)


def places_of(num: int) -> Places:
    return np.random.default_rng(0).permutation(num).astype(np.uint64)


def added(features_NF: Floats, texts_ND: Floats, ridge: float | None, cuts: Sequence[int]) -> Regression:
    """In shards that end at the cuts."""
    regression, ends = Regression(ridge=ridge), [0, *cuts, len(features_NF)]
    places_N = places_of(len(features_NF))
    for start, end in itertools.pairwise(ends):
        regression.add(features_NF[start:end], texts_ND[start:end], places_N[start:end])
    return regression


def fit(
    features_NF: Floats, texts_ND: Floats, *, ridge: float | None = None, cuts: Sequence[int] = ()
) -> Projection:
    return added(features_NF, texts_ND, ridge, cuts).projection()


def judge_ridges(features_NF: Floats, texts_ND: Floats) -> dict[float, float]:
    return added(features_NF, texts_ND, None, ()).judgements()


def plainly(features_NF: Floats, texts_ND: Floats, ridge: float) -> Projection:
    """With all pairs at once, standardised before they are multiplied."""
    mean_F, scale_F = features_NF.mean(axis=0, dtype=np.float64), features_NF.std(axis=0, dtype=np.float64)
    scale_F, center_D = np.maximum(scale_F, 1e-6), texts_ND.mean(axis=0, dtype=np.float64)
    x_NF = (features_NF - mean_F) / scale_F
    gram_FF = x_NF.T @ x_NF / len(x_NF) + ridge * np.eye(len(mean_F))
    weight_FD = np.linalg.solve(gram_FF, x_NF.T @ (texts_ND - center_D) / len(x_NF))
    arrays = (one.astype(np.float32) for one in (mean_F, scale_F, weight_FD, center_D))
    return Projection(**dict(zip(("mean", "scale", "weight", "center"), arrays, strict=True)))


def judged_plainly(features_NF: Floats, texts_ND: Floats) -> dict[float, float]:
    chosen = places_of(len(texts_ND)) < min(8192, round(len(texts_ND) * 0.1))
    found = {}
    for ridge in align.RIDGES:
        fitted = plainly(features_NF[~chosen], texts_ND[~chosen], ridge)
        images_JD, texts_JD = fitted.images(features_NF[chosen]), fitted.texts(texts_ND[chosen])
        found[ridge] = recall.paired(texts_JD, images_JD).mean_reciprocal_rank
    return found


def differing(one: Projection, other: Projection) -> float:
    """The most that a weight, or a mean or scale in its own units, differs."""
    scale_F = np.maximum(other.scale, 1e-3)
    return float(
        max(
            np.abs(one.weight - other.weight).max() / np.abs(other.weight).max(),
            (np.abs(one.mean - other.mean) / scale_F).max(),
            (np.abs(one.scale - other.scale) / scale_F).max(),
        )
    )


def test_a_linear_truth_is_found_on_pairs_never_seen() -> None:
    projection = fit(*linear_pairs(500, seed=0), ridge=1e-6)
    features_NF, texts_ND = linear_pairs(200, seed=1)
    cosines_N = (projection.images(features_NF) * projection.texts(texts_ND)).sum(axis=1)
    assert cosines_N.min() > 0.9999


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_the_units_of_a_feature_do_not_matter(scale: float, shift: float) -> None:
    features_NF, texts_ND = linear_pairs(60, seed=0, noise=1.0)
    moved_NF = (features_NF.astype(np.float64) * scale + shift).astype(np.float32)
    one = fit(features_NF, texts_ND, ridge=0.1).images(features_NF)
    other = fit(moved_NF, texts_ND, ridge=0.1).images(moved_NF)
    assert np.abs(one - other).max() < 2e-3


def test_the_number_of_pairs_does_not_change_what_a_ridge_means() -> None:
    features_NF, texts_ND = linear_pairs(80, seed=0, noise=2.0)
    once = fit(features_NF, texts_ND, ridge=0.5)
    thrice = fit(np.tile(features_NF, (3, 1)), np.tile(texts_ND, (3, 1)), ridge=0.5)
    assert np.abs(once.weight - thrice.weight).max() < 1e-4


def test_the_ridge_is_the_one_that_judges_best_and_noise_asks_for_more_of_it() -> None:
    clean, noisy = linear_pairs(200, seed=0), linear_pairs(200, seed=0, noise=60.0)
    judgements = judge_ridges(*noisy)
    assert list(judgements) == list(align.RIDGES)
    best = max(judgements, key=lambda ridge: judgements[ridge])
    assert fit(*noisy).fingerprint == fit(*noisy, ridge=best).fingerprint
    assert best > align.RIDGES[0]
    assert judge_ridges(*clean)[align.RIDGES[0]] == 1.0


def test_a_fitted_projection_finds_held_out_pairs_far_above_chance() -> None:
    features_NF, texts_ND = linear_pairs(700, seed=0, noise=3.0)
    projection = fit(features_NF[:500], texts_ND[:500])
    found = recall.paired(projection.texts(texts_ND[500:]), projection.images(features_NF[500:]), at=(1,))
    assert found.recall_at[1] > 50 * found.chance_at(1)


def test_a_feature_that_never_varies_is_harmless() -> None:
    features_NF, texts_ND = linear_pairs(50, seed=0)
    features_NF[:, 3] = 7.0
    projection = fit(features_NF, texts_ND, ridge=0.1)
    assert np.isfinite(projection.weight).all()
    assert np.abs(projection.weight[3]).max() == 0


@pytest.mark.parametrize("cuts", [(), (1, 2, 700), (300, 300, 599, 8000)], ids=str)
def test_sums_over_shards_give_what_all_pairs_at_once_do(cuts: Sequence[int]) -> None:
    features_NF, texts_ND = linear_pairs(9000, seed=0, noise=20.0)
    features_NF[:, 5] = 0.1
    assert (
        differing(fit(features_NF, texts_ND, ridge=0.3, cuts=cuts), plainly(features_NF, texts_ND, 0.3))
        < 1e-6
    )
    judged, expected = (
        added(features_NF, texts_ND, None, cuts).judgements(),
        judged_plainly(features_NF, texts_ND),
    )
    assert judged == pytest.approx(expected, abs=1e-6)
    best = max(expected, key=lambda ridge: (expected[ridge], ridge))
    assert best != align.RIDGES[0]
    assert (
        fit(features_NF, texts_ND, cuts=cuts).fingerprint
        == fit(features_NF, texts_ND, ridge=best, cuts=cuts).fingerprint
    )


def test_features_far_from_zero_lose_no_digits() -> None:
    features_NF, texts_ND = linear_pairs(3000, seed=0, noise=20.0)
    features_NF = (3e4 + 0.01 * features_NF).astype(np.float32)
    found = fit(features_NF, texts_ND, ridge=0.1, cuts=range(100, 3000, 100))
    assert differing(found, plainly(features_NF, texts_ND, 0.1)) < 1e-6


def test_the_same_shards_give_the_same_bytes() -> None:
    pairs, cuts = linear_pairs(900, seed=0, noise=20.0), (100, 450)
    assert fit(*pairs, cuts=cuts).to_bytes() == fit(*pairs, cuts=cuts).to_bytes()


def test_few_rows_are_added_as_many_are() -> None:
    features_NF, texts_ND = linear_pairs(25, seed=0, noise=1.0)
    found = fit(features_NF, texts_ND, ridge=0.1, cuts=range(1, 25))
    assert differing(found, plainly(features_NF, texts_ND, 0.1)) < 1e-6
    assert judge_ridges(features_NF, texts_ND) == pytest.approx(judged_plainly(features_NF, texts_ND))


@pytest.mark.long
def test_memory_does_not_grow_with_the_pairs_that_were_added() -> None:
    """Who judges are the first by place, of 8,192 at most: so many of many are those of all."""
    features_NF, texts_ND = linear_pairs(120_000, seed=0, noise=300.0)
    places_N = places_of(120_000)
    regression, peaks = Regression(), []
    tracemalloc.start()
    for start in range(0, 120_000, 1000):
        rows = slice(start, start + 1000)
        regression.add(features_NF[rows], texts_ND[rows], places_N[rows])
        if start in (39_000, 119_000):
            peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert regression.judgements() == pytest.approx(judged_plainly(features_NF, texts_ND), abs=1e-6)


@given(rows=st.integers(0, 9))
def test_both_sides_have_unit_length_whatever_the_batch(rows: int) -> None:
    features_NF, texts_ND = linear_pairs(40, seed=0, noise=1.0)
    projection = fit(features_NF, texts_ND, ridge=0.1)
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
    projection = fit(*linear_pairs(50, seed=0), ridge=0.1)
    again = Projection.of(projection.to_bytes())
    assert again.to_bytes() == projection.to_bytes()
    assert again.fingerprint == projection.fingerprint
    assert again.fingerprint != fit(*linear_pairs(50, seed=1), ridge=0.1).fingerprint
    assert np.array_equal(again.weight, projection.weight)


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    good = align.identity(4)
    wrong = Projection(mean=good.mean, scale=good.scale, weight=good.weight[:, :3], center=good.center)
    with pytest.raises(ValueError, match="shapes disagree"):
        Projection.of(wrong.to_bytes())
    with pytest.raises(ValueError, match=r"must be \[B, 4\]"):
        good.images(np.zeros((2, 5), np.float32))


@pytest.mark.parametrize(
    ("num", "ridge", "message"),
    [(0, 0.1, "got 0"), (1, 0.1, "two pairs, got 1"), (5, 0.0, "positive"), (5, None, "too few")],
)
def test_pairs_that_cannot_be_fitted_are_refused(num: int, ridge: float | None, message: str) -> None:
    features_NF, texts_ND = linear_pairs(5, seed=0)
    with pytest.raises(ValueError, match=message):
        fit(features_NF[:num], texts_ND[:num], ridge=ridge)


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
