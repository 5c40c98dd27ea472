import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import numerics, semantic
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


def found(vectors_ND: NDArray[np.float32], *cuts: int) -> set[tuple[int, int]]:
    pairs = semantic.pairs(vectors_ND, (0, *cuts, len(vectors_ND)), THRESHOLD)
    return {(late, early) for late, early in pairs.tolist()}


def test_few_rows_are_compared_each_with_each() -> None:
    assert found(clustered()) == exact(clustered())
    assert found(clustered(), 400, 401, 1200) == exact(clustered())


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rows are already clustered."""
    monkeypatch.setattr(semantic, "FEW", 100)
    numerics.use_threads(1)


@pytest.mark.usefixtures("few")
def test_within_clusters_nearly_all_pairs_are_found_and_no_other() -> None:
    for cuts in ((), (300, 700, 1400)):
        wanted, told = exact(clustered()), found(clustered(), *cuts)
        assert told <= wanted
        assert len(told) >= 0.98 * len(wanted) > 100


@pytest.mark.usefixtures("few")
def test_a_later_delivery_changes_no_pair_found_before_it() -> None:
    vectors_ND = clustered()
    whole = found(vectors_ND, 200, 300, 900)
    for stop, cuts in ((200, ()), (300, (200,)), (900, (200, 300))):
        assert found(vectors_ND[:stop], *cuts) == {pair for pair in whole if pair[0] < stop}


@pytest.mark.usefixtures("few")
def test_the_same_rows_give_the_same_pairs_on_one_thread_and_on_two() -> None:
    once = found(clustered())
    numerics.use_threads(2)
    assert found(clustered()) == once
    numerics.use_threads(1)


def test_a_row_without_direction_is_like_nothing() -> None:
    vectors_ND = np.concatenate([np.zeros((2, WIDTH), np.float32), clustered(num=3)[[1, 1]]])
    assert found(vectors_ND) == {(3, 2)}


@pytest.mark.parametrize("num", [0, 1])
def test_no_row_and_one_row_have_no_pairs(num: int) -> None:
    assert found(clustered()[:num]) == set()
