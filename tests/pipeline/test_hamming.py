import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import hamming
from pipeline.hamming import Hashes, Rows

RADII = (0, 1, 2, 3, 5, 8, 10)


def near(seed: int, num: int) -> Hashes:
    """Random hashes, half of them copies of others with up to 12 bits changed; some are equal."""
    rng = np.random.default_rng(seed)
    found_N = rng.integers(0, 2**64, num, dtype=np.uint64)
    for row in range(num // 2, num):
        bits = rng.choice(64, row % 13, replace=False).astype(np.uint64)
        found_N[row] = found_N[row - num // 2] ^ np.bitwise_or.reduce(
            np.uint64(1) << bits, initial=np.uint64(0)
        )
    return found_N


def told(found: list[tuple[Rows, Rows]]) -> list[tuple[int, int]]:
    return [pair for left, right in found for pair in zip(left.tolist(), right.tolist(), strict=True)]


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("block", [50, hamming.MEETINGS])
def test_the_keys_find_exactly_what_comparing_each_with_each_finds_and_once(
    monkeypatch: pytest.MonkeyPatch, radius: int, block: int
) -> None:
    left_N, right_M = near(0, 400), np.concatenate([near(0, 400)[::3], near(1, 50)])
    apart_NM = np.bitwise_count(left_N[:, None] ^ right_M)
    wanted = sorted(zip(*(place.tolist() for place in np.nonzero(apart_NM <= radius)), strict=True))
    monkeypatch.setattr(hamming, "MEETINGS", block)
    assert sorted(told(list(hamming.join(left_N, right_M, radius)))) == wanted
    monkeypatch.setattr(hamming, "FEW", -1)
    assert sorted(told(list(hamming.join(left_N, right_M, radius)))) == wanted


@given(st.lists(st.sampled_from([0, 1, 3, 2**63, 2**64 - 1]), max_size=12), st.integers(0, 10))
def test_pairs_are_of_a_row_and_one_before_it_whatever_their_order(values: list[int], radius: int) -> None:
    found_N = np.array(values, np.uint64)
    pairs = told(list(hamming.pairs(found_N, radius)))
    assert sorted(pairs) == [
        (late, early)
        for late in range(len(values))
        for early in range(late)
        if (values[late] ^ values[early]).bit_count() <= radius
    ]


@pytest.mark.parametrize("radius", range(13))
def test_no_way_to_spread_changed_bits_over_the_keys_escapes_them(radius: int) -> None:
    """What escapes differs in each key by more than is looked up: in all by more than the radius."""
    assert sum(most + 1 for most in hamming.allowed(radius)) == radius + 1


@pytest.mark.parametrize("num", [0, 1])
def test_no_hash_and_one_hash_have_no_pairs(num: int) -> None:
    assert told(list(hamming.pairs(np.zeros(num, np.uint64), 8))) == []
