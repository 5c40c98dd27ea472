"""What a query keeps of its document: four fifths, in order, and never nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import dropout


@given(
    words=st.lists(st.text("abc", min_size=1), min_size=1), share=st.floats(0, 0.99), seed=st.integers(0, 99)
)
def test_words_stay_in_order_and_one_at_least_stays(words: list[str], share: float, seed: int) -> None:
    kept = dropout.words(" ".join(words), share, np.random.default_rng(seed)).split()
    rest = iter(words)
    assert all(word in rest for word in kept)
    assert len(kept) >= 1
    assert abs(len(words) - len(kept) - share * len(words)) < 1 or len(kept) == len(words)


@pytest.mark.parametrize("num", [3, 7, 49])
def test_on_average_the_share_is_dropped_of_short_texts_too(num: int) -> None:
    rng = np.random.default_rng(0)
    counts = [len(dropout.dropping(num, 0.2, rng)) for _ in range(4000)]
    assert np.mean(counts) == pytest.approx(0.2 * num, abs=0.03)


@given(height=st.integers(7, 60), width=st.integers(7, 60), seed=st.integers(0, 99))
def test_a_fifth_of_the_patches_has_the_mean_color_and_the_rest_is_untouched(
    height: int, width: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    before = image.copy()
    found = dropout.patches(image, 0.2, np.random.default_rng(seed))
    mean = np.round(image.mean(axis=(0, 1))).astype(np.uint8)
    changed = (found != image).any(axis=2)
    assert np.array_equal(image, before)
    assert (found[changed] == mean).all()
    assert changed.mean() <= 10 / 49 * (1 + 14 / min(height, width))


def test_without_dropout_nothing_changes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(dropout.patches(image, 0.0, np.random.default_rng(0)), image)
    assert dropout.words("as it  is", 0.0, np.random.default_rng(0)) == "as it is"
