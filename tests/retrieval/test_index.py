"""Laws of the index: exact segments are brute force, however they are cut; the dead never answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoders import normalised
from retrieval.index import Floats, Ids, Index, IndexConfig, build_segment, train_coarse

WIDTH = 8
FLAT = IndexConfig()
EXHAUSTIVE = IndexConfig(flat_rows=10, probes=1_000_000)


def members(num: int, *, seed: int, coarse_grid: int = 1) -> tuple[Ids, Floats]:
    """Vectors on a grid, so that many are equal and ties are common."""
    rng = np.random.default_rng(seed)
    vectors_ND = rng.integers(-coarse_grid, coarse_grid + 1, (num, WIDTH)).astype(np.float32)
    return rng.permutation(10 * num)[:num].astype(np.int64), normalised(vectors_ND)


def brute_force(ids_N: Ids, vectors_ND: Floats, queries_BD: Floats, k: int) -> tuple[Ids, Floats]:
    """Scores are rounded as a stored score is; ties by id."""
    wide = queries_BD.astype(np.float64)[:, None] * vectors_ND.astype(np.float64)[None]
    scores_BN = wide.sum(axis=2).astype(np.float32)
    order_BN = np.lexsort((np.broadcast_to(ids_N, scores_BN.shape), -scores_BN), axis=1)[:, :k]
    return ids_N[order_BN], np.take_along_axis(scores_BN, order_BN, axis=1)


def cut(ids_N: Ids, vectors_ND: Floats, places: Sequence[int], config: IndexConfig) -> list[bytes]:
    edges = pairwise([0, *sorted(places), len(ids_N)])
    return [build_segment(ids_N[a:b], vectors_ND[a:b], config) for a, b in edges]


@given(
    num=st.integers(0, 80),
    places=st.lists(st.integers(0, 80), max_size=3),
    k=st.integers(1, 100),
    seed=st.integers(0, 9),
)
def test_flat_segments_are_brute_force_however_they_are_cut(
    num: int, places: list[int], k: int, seed: int
) -> None:
    ids_N, vectors_ND = members(num, seed=seed)
    queries_BD = normalised(np.random.default_rng(seed + 100).normal(size=(5, WIDTH)))
    segments = cut(ids_N, vectors_ND, [min(place, num) for place in places], FLAT)
    found = Index.open(segments).search(queries_BD, k)
    exact_BK, scores_BK = brute_force(ids_N, vectors_ND, queries_BD, k)
    assert np.array_equal(found.ids, exact_BK)
    assert np.abs(found.scores - scores_BK).max(initial=0) < 1e-6


@given(dead=st.sets(st.integers(0, 299)), k=st.integers(1, 40), seed=st.integers(0, 3))
def test_the_dead_never_answer_and_never_shorten_an_answer(dead: set[int], k: int, seed: int) -> None:
    ids_N, vectors_ND = members(300, seed=seed, coarse_grid=2)
    gone = ids_N[sorted(dead)]
    segments = cut(ids_N, vectors_ND, [200], IndexConfig(flat_rows=150, probes=1))
    index = Index.open(segments, gone)
    found = index.search(vectors_ND[:7], k)
    assert not np.isin(found.ids, gone).any()
    assert found.ids.shape == (7, min(k, 300 - len(dead)))
    assert np.isin(found.ids, ids_N).all()
    assert np.array_equal(index.live_ids, np.sort(np.setdiff1d(ids_N, gone)))


@pytest.mark.parametrize("seed", range(3))
def test_inverted_lists_that_are_all_visited_are_exact(seed: int) -> None:
    ids_N, vectors_ND = members(400, seed=seed)
    inverted = Index.open([build_segment(ids_N, vectors_ND, EXHAUSTIVE)])
    flat = Index.open([build_segment(ids_N, vectors_ND, FLAT)])
    assert isinstance(inverted.segments[0].cpu, faiss.IndexIVFFlat)
    one, other = inverted.search(vectors_ND[:20], 30), flat.search(vectors_ND[:20], 30)
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.scores, other.scores)


def test_a_short_list_is_filled_from_the_lists_that_were_not_probed() -> None:
    ids_N, vectors_ND = members(400, seed=0, coarse_grid=5)
    index = Index.open([build_segment(ids_N, vectors_ND, IndexConfig(flat_rows=10, probes=1))])
    assert np.array_equal(np.sort(index.search(vectors_ND[:3], 400).ids), np.tile(np.sort(ids_N), (3, 1)))


@given(at=st.integers(0, 299), k=st.integers(1, 30))
def test_a_query_gets_the_same_answer_alone_and_in_company(at: int, k: int) -> None:
    rng = np.random.default_rng(1)
    vectors_ND = normalised(rng.normal(size=(300, WIDTH)))
    index = Index.open([build_segment(np.arange(300), vectors_ND, FLAT)])
    alone, together = index.search(vectors_ND[at : at + 1], k), index.search(vectors_ND, k)
    assert np.array_equal(alone.ids[0], together.ids[at])
    assert np.array_equal(alone.scores[0], together.scores[at])


def test_many_equal_vectors_are_cut_by_id() -> None:
    vectors_ND = normalised(np.ones((1500, WIDTH)))
    index = Index.open([build_segment(np.arange(1500)[::-1].copy(), vectors_ND, FLAT)])
    assert np.array_equal(index.search(vectors_ND[:2], 5).ids, np.tile(np.arange(5), (2, 1)))


@given(wanted=st.lists(st.integers(0, 120), max_size=30), dead=st.sets(st.integers(0, 99), max_size=30))
def test_a_subset_answers_only_with_its_living_members(wanted: list[int], dead: set[int]) -> None:
    _, vectors_ND = members(100, seed=3)
    gone = np.array(sorted(dead), np.int64)
    index = Index.open(cut(np.arange(100), vectors_ND, [60], FLAT), gone)
    allowed = np.array(sorted(set(wanted) & set(range(100)) - dead), np.int64)
    found = index.search_subset(vectors_ND[:4], 50, np.array(wanted, np.int64))
    exact_BK, _ = brute_force(allowed, vectors_ND[allowed], vectors_ND[:4], 50)
    assert np.array_equal(found.ids, exact_BK)


@pytest.mark.parametrize("config", [FLAT, EXHAUSTIVE])
def test_the_same_members_give_the_same_bytes_in_whatever_order(config: IndexConfig) -> None:
    ids_N, vectors_ND = members(200, seed=5)
    order_N = np.random.default_rng(0).permutation(200)
    blob = build_segment(ids_N, vectors_ND, config)
    assert build_segment(ids_N[order_N], vectors_ND[order_N], config) == blob


@pytest.mark.parametrize("config", [FLAT, EXHAUSTIVE])
def test_compaction_answers_the_same_and_holds_no_byte_of_the_dead(config: IndexConfig) -> None:
    vectors_ND = normalised(np.random.default_rng(0).normal(size=(300, WIDTH)))
    ids_N, gone = np.arange(300) + 10**12, np.arange(0, 300, 7) + 10**12
    index = Index.open(cut(ids_N, vectors_ND, [100, 220], config), gone)
    blob = index.compacted(config)
    compacted = Index.open([blob])
    before, after = index.search(vectors_ND[:40], 20), compacted.search(vectors_ND[:40], 20)
    assert np.array_equal(before.ids, after.ids)
    assert np.array_equal(before.scores, after.scores)
    for one in gone:
        assert vectors_ND[one - 10**12].tobytes() not in blob
        assert int(one).to_bytes(8, "little") not in blob


@pytest.mark.parametrize(("num", "kind"), [(50, faiss.IndexIDMap2), (51, faiss.IndexIVFFlat)])
def test_a_segment_is_exact_up_to_the_limit_and_inverted_above(num: int, kind: type) -> None:
    ids_N, vectors_ND = members(num, seed=0)
    index = Index.open([build_segment(ids_N, vectors_ND, IndexConfig(flat_rows=50))])
    assert isinstance(index.segments[0].cpu, kind)


@pytest.mark.parametrize(("num", "lists"), [(1, 1), (77, 1), (78, 2), (100_000, 1024), (10_000_000, 8192)])
def test_the_number_of_lists_is_a_power_of_two_near_four_roots(num: int, lists: int) -> None:
    assert FLAT.num_lists(num) == lists


def test_a_coarse_quantiser_fitted_once_serves_later_segments() -> None:
    ids_N, vectors_ND = members(400, seed=0, coarse_grid=5)
    coarse = train_coarse(vectors_ND[:200], EXHAUSTIVE)
    parts = [
        build_segment(ids_N[a:b], vectors_ND[a:b], EXHAUSTIVE, coarse) for a, b in ((0, 200), (200, 400))
    ]
    found = Index.open(parts).search(vectors_ND[:9], 15)
    exact_BK, _ = brute_force(ids_N, vectors_ND, vectors_ND[:9], 15)
    assert np.array_equal(found.ids, exact_BK)
    with pytest.raises(ValueError, match="use train_coarse"):
        build_segment(ids_N, vectors_ND, EXHAUSTIVE, parts[0])


def test_vectors_come_back_by_id_dead_or_alive() -> None:
    ids_N, vectors_ND = members(90, seed=2)
    index = Index.open(cut(ids_N, vectors_ND, [40], IndexConfig(flat_rows=45)), ids_N[:5])
    assert np.array_equal(index.vectors(ids_N[::-1]), vectors_ND[::-1])
    with pytest.raises(ValueError, match="has no id 900000"):
        index.vectors(np.array([ids_N[0], 900_000]))


def test_a_segment_opens_from_a_file(tmp_path: Path) -> None:
    ids_N, vectors_ND = members(20, seed=2)
    blob = build_segment(ids_N, vectors_ND, FLAT)
    (tmp_path / "segment.faiss").write_bytes(blob)
    found = Index.open([tmp_path / "segment.faiss"]).search(vectors_ND, 3)
    assert np.array_equal(found.ids, Index.open([blob]).search(vectors_ND, 3).ids)


def test_members_that_cannot_be_are_refused() -> None:
    ids_N, vectors_ND = members(4, seed=0)
    for wrong_N in (ids_N[[0, 0, 1, 2]], ids_N - 100):
        with pytest.raises(ValueError, match="distinct and not negative"):
            build_segment(wrong_N, vectors_ND, FLAT)
    for wrong_ND in (vectors_ND * 1.01, vectors_ND * np.nan):
        with pytest.raises(ValueError, match="normalise first"):
            build_segment(ids_N, wrong_ND, FLAT)
    with pytest.raises(ValueError, match="need int64 ids"):
        build_segment(ids_N.astype(np.int32), vectors_ND, FLAT)


def foreign(index: faiss.Index) -> bytes:
    vectors_ND = members(50, seed=0)[1]
    index.train(vectors_ND)
    index.add(vectors_ND)
    return bytes(faiss.serialize_index(index))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"not a segment",
        build_segment(*members(20, seed=0), FLAT)[:-5],
        foreign(faiss.IndexFlatIP(WIDTH)),
        foreign(faiss.IndexHNSWFlat(WIDTH, 4)),
        bytes(faiss.serialize_index(faiss.IndexIDMap2(faiss.IndexFlatL2(WIDTH)))),
        bytes(faiss.serialize_index(faiss.IndexIDMap2(faiss.IndexHNSWFlat(WIDTH, 4)))),
    ],
    ids=["empty", "noise", "cut", "positional", "hnsw", "l2", "hnsw with ids"],
)
def test_what_build_segment_did_not_write_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="segment"):
        Index.open([blob])


def test_a_segment_that_claims_more_bytes_than_it_has_is_refused() -> None:
    blob = bytearray(build_segment(*members(20, seed=0), FLAT))
    place = bytes(blob).index((20 * WIDTH).to_bytes(8, "little"))  # how many floats follow
    blob[place : place + 8] = (1 << 34).to_bytes(8, "little")
    with pytest.raises(ValueError, match="FAISS can read"):
        Index.open([bytes(blob)])


def test_an_index_that_contradicts_itself_is_refused() -> None:
    ids_N, vectors_ND = members(20, seed=0)
    segment = build_segment(ids_N, vectors_ND, FLAT)
    narrow = build_segment(ids_N + 1000, normalised(vectors_ND[:, :4]), FLAT)
    with pytest.raises(ValueError, match="in two segments"):
        Index.open([segment, segment])
    with pytest.raises(ValueError, match="one width"):
        Index.open([segment, narrow])
    with pytest.raises(ValueError, match="open at least one"):
        Index.open([])


@pytest.mark.parametrize(
    ("queries_BD", "k", "message"),
    [
        (np.zeros((2, WIDTH + 1), np.float32), 3, "queries must be"),
        (np.full((2, WIDTH), np.nan, np.float32), 3, "NaN"),
        (np.zeros((2, WIDTH), np.float32), 0, "k must be"),
        (np.zeros((2, WIDTH), np.float32), 1025, "k must be"),
    ],
)
def test_queries_that_cannot_be_are_refused(queries_BD: Floats, k: int, message: str) -> None:
    index = Index.open([build_segment(*members(20, seed=0), FLAT)])
    with pytest.raises(ValueError, match=message):
        index.search(queries_BD, k)


@pytest.mark.gpu
@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="FAISS sees no GPU")
@pytest.mark.parametrize("config", [FLAT, EXHAUSTIVE])
def test_a_gpu_answers_as_the_cpu_does(config: IndexConfig) -> None:
    vectors_ND = normalised(np.random.default_rng(0).normal(size=(2000, WIDTH)))
    segment, gone = build_segment(np.arange(2000), vectors_ND, config), np.arange(0, 2000, 3)
    index = Index.open([segment], gone)
    assert index.segments[0].gpu is not None
    found = index.search(vectors_ND[:50], 20)
    alive = np.setdiff1d(np.arange(2000), gone)
    exact_BK, _ = brute_force(alive, vectors_ND[alive], vectors_ND[:50], 20)
    assert np.array_equal(found.ids, exact_BK)
