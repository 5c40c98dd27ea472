"""What the benchmark of retrieval reads out of its curves, and what copying a neighbor is worth."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from tests.benchmarks import bench_headline, copying, headline_verdict
from tests.benchmarks.copying import Document
from tests.benchmarks.headline_verdict import Comparison, Verdict

CODES, PLACES = 7, 16


@pytest.mark.parametrize("module", [bench_headline, copying, headline_verdict])
def test_its_examples_hold(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted
    assert not found.failed


def test_the_ratio_is_read_between_two_points() -> None:
    without = [(10.0, 4.0), (20.0, 3.0), (30.0, 3.2)]
    behind = [(11.0, 3.6), (22.0, 2.6)]
    found = Comparison.of(without, behind)
    assert found.ratio == pytest.approx(20.0 / (11.0 + 11.0 * 0.6))
    assert found.reverse is None
    assert found.gap == pytest.approx(2.6 - 3.04)


def test_a_loss_that_is_never_reached_has_no_ratio_and_the_words_say_so() -> None:
    without, behind = [(10.0, 4.0), (20.0, 3.0)], [(10.0, 4.0), (20.0, 3.5)]
    found = Comparison.of(without, behind)
    assert found.ratio is None
    assert found.reverse == pytest.approx(15.0 / 20.0)
    verdict = Verdict.of([found, Comparison.of(behind, without)])
    assert verdict.ratio is None
    assert "1 of 2 seeds, so there is no ratio" in verdict.text("image", "without neighbors")


@pytest.mark.parametrize(
    ("ratios", "words"),
    [((1.5, 2.0), "less compute"), ((0.5, 0.9), "more compute"), ((0.9, 1.4), "do not agree")],
)
def test_the_words_follow_every_seed(ratios: tuple[float, ...], words: str) -> None:
    told = Verdict(ratios=ratios, reverses=(None, None), gaps=(0.1, 0.1)).text("image", "without neighbors")
    assert words in told
    assert "0.100 nats a token higher" in told


def drawn(number: int, rng: np.random.Generator, *, agree: float) -> Document:
    """A target of random codes; the first neighbor has a share of them, the second none in common."""
    target_T = rng.integers(0, CODES, PLACES)
    first_T = np.where(rng.random(PLACES) < agree, target_T, (target_T + 1) % CODES)
    pair = np.stack([first_T, (target_T + 2) % CODES, target_T])
    return Document(uid=f"a:{number}", num_tokens=60, num_target_tokens=20, codes_QT=pair)


def test_a_copy_is_worth_what_neighbors_share() -> None:
    rng = np.random.default_rng(3)
    training, held_out = ([drawn(at + i, rng, agree=0.6) for i in range(400)] for at in (0, 1000))
    found = copying.baselines(training, held_out, CODES)
    losses = {name: one["loss"] for name, one in found["losses"].items()}
    assert found["first_neighbor_agrees"] == pytest.approx(0.6, abs=0.02)
    assert losses["codes by frequency"] == pytest.approx(np.log(CODES), abs=0.02)
    # Right six times in ten, else each of the other codes alike: the cross-entropy of that distribution.
    best = -0.6 * np.log(0.6) - 0.4 * np.log(0.4 / (CODES - 1))
    assert losses["copy of the first neighbor"] == pytest.approx(best, abs=0.03)
    assert losses["copy of either neighbor"] == pytest.approx(losses["copy of the first neighbor"], abs=0.01)


def test_a_code_that_only_the_target_has_is_not_foreseen() -> None:
    """Else every image of the training split would look likelier than a new one."""
    rng = np.random.default_rng(5)
    found = [drawn(number, rng, agree=0.0) for number in range(8)]
    counts = copying.Frequencies.of(np.stack([one.codes_QT[-1] for one in found]), CODES)
    at_place_M = copying.experts(found, counts, counted=1)[:, 0]
    assert (at_place_M == 0).any()
    assert (copying.experts(found, counts, counted=0)[:, 0] > 0).all()
