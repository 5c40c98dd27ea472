from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation import bootstrap
from trainer.evaluation.bootstrap import Interval


def test_bounds_hold_the_true_mean_in_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for number in range(200):
        found = bootstrap.of_mean(rng.normal(3.0, 2.0, 100).tolist(), seed=number)
        held += found.low <= 3.0 <= found.high
    assert 180 <= held <= 198  # binomial: 190 with a deviation of 3; percentile bounds are a little narrow


def test_a_difference_is_paired_item_by_item() -> None:
    hard = np.random.default_rng(1).normal(0.0, 10.0, 50)
    paired = bootstrap.of_difference((hard + 0.1).tolist(), hard.tolist(), seed=0)
    assert paired.low == pytest.approx(0.1)
    assert paired.high == pytest.approx(0.1)
    alone = bootstrap.of_mean((hard + 0.1).tolist(), seed=0)
    assert alone.high - alone.low > 2.0


def test_the_same_seed_gives_the_same_bounds() -> None:
    scores = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert bootstrap.of_mean(scores, seed=3) == bootstrap.of_mean(scores, seed=3)


def test_no_item_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no item"):
        bootstrap.of_mean([], seed=0)


@pytest.mark.parametrize(("hits", "low", "high"), [(0, 0.0, 0.278), (5, 0.237, 0.763), (10, 0.722, 1.0)])
def test_wilson_is_sensible_at_both_ends(hits: int, low: float, high: float) -> None:
    found = bootstrap.wilson(hits, 10)
    assert (found.mean, found.low, found.high) == pytest.approx((hits / 10, low, high), abs=1e-3)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        bootstrap.wilson(0, 0)


def test_an_interval_is_told_as_three_numbers() -> None:
    assert Interval(mean=1.0, low=0.5, high=2.0).json() == {"mean": 1.0, "low": 0.5, "high": 2.0}
