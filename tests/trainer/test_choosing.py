"""Each choice against the sentence that defines it, said again as a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer import choosing

LOGITS = st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=12, unique=True)


def probabilities(logits: list[float]) -> list[float]:
    weights = [math.exp(logit) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def rows(seed: int, count: int, *, width: int = 40) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, width, generator=generator) * 3 for _ in range(count)]


@given(
    logits=LOGITS,
    uniform=st.floats(0, 1, exclude_max=True, width=32),
    top_p=st.floats(0.01, 1.0),
    top_k=st.integers(1, 12),
)
def test_the_choice_inverts_the_cumulated_probabilities_of_the_fewest_that_hold_top_p(
    logits: list[float], uniform: float, top_p: float, top_k: int
) -> None:
    token = choosing.choose(
        torch.tensor([logits]), torch.tensor([uniform]), temperature=1.0, top_p=top_p, top_k=top_k
    ).item()
    order = np.argsort(-np.float32(logits), kind="stable")[:top_k]
    likeliest = np.exp(np.float64(np.float32(logits))[order])
    likeliest /= likeliest.sum()
    kept = [p for i, p in enumerate(likeliest) if likeliest[:i].sum() < top_p]
    place = order.tolist().index(token)
    below, target = likeliest[:place].sum(), uniform * sum(kept)
    assert likeliest[:place].sum() < top_p + 1e-5
    assert below - 1e-5 <= target <= below + likeliest[place] + 1e-5


def test_draws_follow_the_probabilities() -> None:
    shares = torch.tensor([0.5, 0.3, 0.2])
    uniforms = torch.linspace(0, 1, 10_001)[:-1]
    chosen = choosing.choose(shares.log().expand(10_000, 3), uniforms, temperature=1.0, top_p=1.0, top_k=3)
    assert torch.allclose(torch.bincount(chosen, minlength=3) / 10_000, shares, atol=2e-3)


@given(
    levels=st.lists(st.sampled_from([-2.5, -0.0, 0.0, 1.0, 7.0, -math.inf]), min_size=1, max_size=30),
    uniform=st.floats(0, 1, exclude_max=True, width=32),
)
def test_ties_are_broken_by_id_as_a_stable_sort_does(levels: list[float], uniform: float) -> None:
    logits_NV = torch.tensor([[*levels, 1.0]])
    expected_NV, order_NV = logits_NV.sort(dim=-1, descending=True, stable=True)
    sorted_NV, found_NV = choosing.descending(logits_NV)
    assert torch.equal(sorted_NV, expected_NV)
    assert torch.equal(found_NV, order_NV)


def test_limits_may_differ_by_row() -> None:
    logits_NV = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).expand(4, 4)
    uniform_N = torch.full((4,), 0.999)
    chosen = choosing.choose(
        logits_NV,
        uniform_N,
        temperature=1.0,
        top_p=torch.tensor([[1.0], [0.7], [1.0], [1e-9]]),
        top_k=torch.tensor([[4], [4], [2], [4]]),
    )
    assert chosen.tolist() == [3, 1, 1, 0]


def test_no_temperature_is_the_likeliest() -> None:
    (logits_NV,) = rows(0, 1)
    chosen = choosing.choose(logits_NV, torch.full((3,), 0.9), temperature=0.0, top_p=1.0, top_k=40)
    assert chosen.tolist() == logits_NV.argmax(dim=-1).tolist()


@given(seed=st.integers(0, 1000), weight=st.floats(1.0, 8.0))
def test_guidance_is_the_papers_equation(seed: int, weight: float) -> None:
    c_NV, u_NV = rows(seed, 2)
    found = choosing.guide(c_NV, u_NV, weight=weight)
    for n in range(3):
        c, u = (probabilities(one[n].tolist()) for one in (c_NV, u_NV))
        expected = [math.log(u[v]) + weight * (math.log(c[v]) - math.log(u[v])) for v in range(40)]
        assert found[n].tolist() == pytest.approx(expected, abs=1e-3)


@given(seed=st.integers(0, 1000), image=st.floats(0.0, 3.0), text=st.floats(0.0, 8.0))
def test_two_term_guidance_is_instructpix2pixs_equation(seed: int, image: float, text: float) -> None:
    f_NV, i_NV, u_NV = rows(seed, 3)
    found = choosing.guide_twice(f_NV, i_NV, u_NV, image=image, text=text)
    for n in range(3):
        f, i, u = ([math.log(p) for p in probabilities(one[n].tolist())] for one in (f_NV, i_NV, u_NV))
        expected = [u[v] + image * (i[v] - u[v]) + text * (f[v] - i[v]) for v in range(40)]
        assert found[n].tolist() == pytest.approx(expected, abs=1e-3)


@given(seed=st.integers(0, 1000), alpha=st.floats(0.01, 1.0), k=st.integers(1, 50))
def test_cd_k_is_the_papers_equation(seed: int, alpha: float, k: int) -> None:
    strong_NV, weak_NV = rows(seed, 2)
    found = choosing.contrast(strong_NV, weak_NV, alpha=alpha, k=k)
    for n in range(3):
        strong, weak = (probabilities(one[n].tolist()) for one in (strong_NV, weak_NV))
        kmax = sorted(strong, reverse=True)[min(k, 40) - 1]
        for v in range(40):
            if strong[v] == pytest.approx(alpha * kmax, rel=1e-4) and strong[v] != kmax:
                continue
            inside = strong[v] >= alpha * kmax
            expected = math.log(strong[v] / weak[v]) if inside else -math.inf
            assert found[n, v].item() == pytest.approx(expected, abs=1e-3)


def test_with_alpha_1_cd_k_offers_exactly_the_k_likeliest() -> None:
    strong_NV, weak_NV = rows(5, 2)
    for k in (1, 4, 40):
        found = choosing.contrast(strong_NV, weak_NV, alpha=1.0, k=k)
        assert found.isfinite().sum(dim=-1).tolist() == [k] * 3
