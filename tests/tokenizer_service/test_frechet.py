"""The Fréchet distance from running moments, against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenizer_service import frechet
from tokenizer_service.frechet import Moments

RNG = np.random.default_rng(0)


def distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    return frechet.distance(Moments.of(first), Moments.of(second))


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_the_distance_of_scaled_and_moved_features_has_a_closed_form(scale: float, shift: float) -> None:
    first = RNG.standard_normal((60, 8))
    variance = first.var(axis=0, ddof=1).sum()
    expected = np.square(first.mean(axis=0) * (scale - 1) + shift).sum() + variance * (scale - 1) ** 2
    assert distance(first, first * scale + shift) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_distance_is_exact_with_fewer_rows_than_features() -> None:
    first, second = RNG.standard_normal((5, 40)), RNG.standard_normal((7, 40))
    a, b = np.cov(first.T), np.cov(second.T)
    roots = np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum()
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(a + b) - 2 * roots
    assert distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_the_distance_to_itself_is_zero_and_features_must_agree() -> None:
    first = RNG.standard_normal((5, 40)).astype(np.float32)
    assert distance(first, first[::-1]) == pytest.approx(0, abs=1e-6)
    for other in (first[:, 1:], first[:1]):
        with pytest.raises(ValueError, match="at least 2"):
            distance(first, other)


def test_what_never_varies_is_no_distance() -> None:
    same = np.ones((4, 3))
    assert distance(same, same) == 0
    assert distance(same, same + 2) == pytest.approx(12)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_moments_do_not_depend_on_how_the_rows_were_cut(cuts: list[int]) -> None:
    rows = 1e4 + RNG.standard_normal((sum(cuts) + 2, 6))
    moments = frechet.empty(6)
    for part in np.split(rows, np.cumsum(cuts)):
        moments.add(part)
    assert moments.count == len(rows)
    assert moments.mean_D == pytest.approx(rows.mean(axis=0))
    assert moments.scatter_DD / (len(rows) - 1) == pytest.approx(np.cov(rows.T), rel=1e-6, abs=1e-9)
