"""Laws of a mix: directions are weighed, whatever their lengths, and what cancels out points nowhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoders import normalised
from retrieval.searching import mixed

SEEDS = st.integers(0, 99)
WEIGHTS = st.lists(st.floats(-10, 10).filter(lambda weight: abs(weight) > 0.01), min_size=1, max_size=4)


@given(weights=WEIGHTS, seed=SEEDS, scale=st.floats(0.01, 100))
def test_a_mix_has_unit_length_and_takes_directions_alone(
    weights: list[float], seed: int, scale: float
) -> None:
    parts_PD = np.random.default_rng(seed).normal(size=(len(weights), 16)).astype(np.float32)
    found_D = mixed(parts_PD, weights)
    assert np.linalg.norm(found_D) == pytest.approx(1, abs=1e-6)
    assert found_D == pytest.approx(mixed(parts_PD * np.float32(scale), weights), abs=1e-5)
    assert found_D == pytest.approx(mixed(parts_PD, [weight * 0.1 for weight in weights]), abs=1e-5)
    sum_D = np.asarray(weights) @ (parts_PD / np.linalg.norm(parts_PD, axis=1, keepdims=True))
    assert found_D == pytest.approx(sum_D / np.linalg.norm(sum_D), abs=1e-5)


@given(seed=SEEDS)
def test_this_picture_but_at_night_lies_between_the_two_and_a_negative_weight_leads_away(seed: int) -> None:
    picture_D, night_D = normalised(np.random.default_rng(seed).normal(size=(2, 16)))
    both_D = mixed(np.stack([picture_D, night_D]), (1, 0.6))
    away_D = mixed(np.stack([picture_D, night_D]), (1, -0.6))
    alike = float(picture_D @ night_D)
    assert both_D @ night_D > alike > away_D @ night_D
    assert both_D @ picture_D > both_D @ night_D


@given(seed=SEEDS, weight=st.floats(0.01, 10))
def test_what_cancels_out_points_nowhere(seed: int, weight: float) -> None:
    part_D = normalised(np.random.default_rng(seed).normal(size=(1, 16)))[0]
    assert not mixed(np.stack([part_D, part_D]), (weight, -weight)).any()
