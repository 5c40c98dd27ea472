import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.likeness import hamming
from pipeline.likeness.hamming import Hashes, Looked, Rows
from pipeline.likeness.meetings import CROWD, FIRST, PASSED_OVER

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


@pytest.mark.long
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("few", [-1, hamming.FEW])
@pytest.mark.parametrize("start", [0, 333])
def test_the_keys_find_exactly_what_comparing_each_with_each_finds_and_once(
    radius: int, few: int, start: int
) -> None:
    hashes_N, others_N = near(0, 400), np.concatenate([near(0, 400)[::3], near(1, 266)])
    apart_NN = np.tril(np.bitwise_count(hashes_N[:, None] ^ others_N) <= radius, -1)
    wanted = [(late, early) for late, early in np.argwhere(apart_NN).tolist() if late >= start]
    looked = Looked(start=start, others_N=others_N, few=few)
    assert sorted(told(list(hamming.pairs(hashes_N, radius, looked)))) == wanted


@pytest.mark.parametrize("before", [CROWD, CROWD + 1, 3 * CROWD])
def test_of_a_crowd_a_row_meets_the_first_and_the_last_before_it(before: int) -> None:
    for num in (before + 1, before + 200):
        looked = Looked(few=-1, crowded_N=np.zeros(num, np.bool_))
        pairs = told(list(hamming.pairs(np.zeros(num, np.uint64), 0, looked)))
        met = sorted(early for late, early in pairs if late == before)
        assert met == [*range(FIRST), *range(before - CROWD + FIRST, before)]
        assert (looked.counts[PASSED_OVER] > 0) == (num > CROWD + 1)
        assert looked.crowded_N is not None
        assert np.flatnonzero(looked.crowded_N).tolist() == list(range(CROWD + 1, num))


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


@pytest.mark.parametrize("threads", [2, 7])
def test_blocks_come_in_the_same_order_from_any_number_of_threads(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hamming, "MEETINGS", 1 << 10)  # many blocks of few
    hashes_N = np.concatenate([near(0, 300), np.zeros(2 * CROWD, np.uint64)])
    counts, found = [], []
    for num in (1, threads):
        looked = Looked(few=-1, threads=num, crowded_N=np.zeros(len(hashes_N), np.bool_))
        found.append([(late.tolist(), early.tolist()) for late, early in hamming.pairs(hashes_N, 2, looked)])
        counts.append(looked.counts)
    assert found[0] == found[1]
    assert len(found[0]) > 50
    assert counts[0] == counts[1]
