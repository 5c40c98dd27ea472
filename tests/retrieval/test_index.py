"""Laws of the index: exact segments are brute force, however they are cut; the dead never answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import copies
from infra.refs import Ref
from infra.storage import Store, forget, objects
from retrieval import layouts
from retrieval.building import build, train
from retrieval.encoders import normalised
from retrieval.index import Index
from retrieval.layouts import IndexConfig, Kind
from retrieval.recall import recall
from retrieval.segments import Floats, Ids

WIDTH = 8
FLAT = IndexConfig()
EXHAUSTIVE = IndexConfig(kind="ivf_flat", probes=1_000_000)
CODED = IndexConfig(kind="ivf_pq", probes=1_000_000)
NARROW = IndexConfig(kind="ivf_flat", probes=1)


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
    return [build(ids_N[a:b], vectors_ND[a:b], config) for a, b in edges]


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
    segments = cut(ids_N, vectors_ND, [200], NARROW)
    index = Index.open(segments, gone)
    found = index.search(vectors_ND[:7], k)
    assert not np.isin(found.ids, gone).any()
    assert found.ids.shape == (7, min(k, 300 - len(dead)))
    assert np.isin(found.ids, ids_N).all()
    assert np.array_equal(index.live_ids, np.sort(np.setdiff1d(ids_N, gone)))


@pytest.mark.parametrize("seed", range(3))
def test_inverted_lists_that_are_all_visited_are_exact(seed: int) -> None:
    ids_N, vectors_ND = members(400, seed=seed)
    inverted = Index.open([build(ids_N, vectors_ND, EXHAUSTIVE)])
    flat = Index.open([build(ids_N, vectors_ND, FLAT)])
    assert isinstance(inverted.segments[0].inner, faiss.IndexIVFFlat)
    one, other = inverted.search(vectors_ND[:20], 30), flat.search(vectors_ND[:20], 30)
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.scores, other.scores)


def test_a_short_list_is_filled_from_the_lists_that_were_not_probed() -> None:
    ids_N, vectors_ND = members(400, seed=0, coarse_grid=5)
    index = Index.open([build(ids_N, vectors_ND, NARROW)])
    assert np.array_equal(np.sort(index.search(vectors_ND[:3], 400).ids), np.tile(np.sort(ids_N), (3, 1)))


@given(at=st.integers(0, 299), k=st.integers(1, 30))
def test_a_query_gets_the_same_answer_alone_and_in_company(at: int, k: int) -> None:
    rng = np.random.default_rng(1)
    vectors_ND = normalised(rng.normal(size=(300, WIDTH)))
    index = Index.open([build(np.arange(300), vectors_ND, FLAT)])
    alone, together = index.search(vectors_ND[at : at + 1], k), index.search(vectors_ND, k)
    assert np.array_equal(alone.ids[0], together.ids[at])
    assert np.array_equal(alone.scores[0], together.scores[at])


def test_small_exact_segments_are_searched_as_one() -> None:
    ids_N, vectors_ND = members(300, seed=6)
    coded = build(ids_N[:200], vectors_ND[:200], NARROW)
    index = Index.open([*cut(ids_N[200:], vectors_ND[200:], range(0, 100, 10), FLAT), coded], ids_N[::3])
    assert [one.kind for one in index.segments] == ["ivf_flat", "flat"]
    assert np.array_equal(index.live_ids, np.setdiff1d(ids_N, ids_N[::3]))
    assert np.array_equal(index.vectors(ids_N), vectors_ND)


def test_many_equal_vectors_are_cut_by_id() -> None:
    vectors_ND = normalised(np.ones((1500, WIDTH)))
    index = Index.open([build(np.arange(1500)[::-1].copy(), vectors_ND, FLAT)])
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


@pytest.mark.parametrize("config", [FLAT, EXHAUSTIVE, CODED])
def test_the_same_members_give_the_same_bytes_in_whatever_order(config: IndexConfig) -> None:
    ids_N, vectors_ND = members(200, seed=5)
    order_N = np.random.default_rng(0).permutation(200)
    blob = build(ids_N, vectors_ND, config)
    assert build(ids_N[order_N], vectors_ND[order_N], config) == blob


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


@pytest.mark.parametrize(
    ("num", "config", "kind"),
    [
        (100_000, IndexConfig(latency_ms=26), "flat"),
        (100_000, IndexConfig(latency_ms=25), "ivf_flat"),
        (2_000_000, IndexConfig(memory_mib=4096), "ivf_flat"),
        (2_200_000, IndexConfig(memory_mib=4096), "ivf_pq"),
        (10, IndexConfig(kind="ivf_pq"), "ivf_pq"),
    ],
)
def test_the_layout_follows_from_size_memory_and_latency(num: int, config: IndexConfig, kind: str) -> None:
    found = layouts.chosen(num, 512, config)
    assert found.kind == kind
    assert found.bytes <= config.memory_mib * 2**20


def test_codes_that_do_not_fit_the_memory_are_cut_into_as_few_segments_as_do() -> None:
    config = IndexConfig(memory_mib=128)
    found = layouts.chosen(20_000_000, 512, config)
    assert (found.kind, found.segments) == ("ivf_pq", 15)
    assert found.bytes <= 128 << 20 < layouts.cut(20_000_000, 14, 512, "ivf_pq", config).bytes
    assert found.lists == layouts.num_lists(20_000_000)  # of all: a query finds them once
    with pytest.raises(ValueError, match=r"memory_mib = 1: one vector and 4096 centroids take 8; raise it"):
        layouts.chosen(20_000_000, 512, IndexConfig(memory_mib=1, lists=4096))
    with pytest.raises(ValueError, match="ivf_flat"):
        layouts.chosen(10, 11, IndexConfig(kind="ivf_pq"))


def test_lists_leave_a_segment_half_of_its_memory() -> None:
    assert layouts.chosen(340_000_000, 512, IndexConfig(memory_mib=65)).segments < 1000
    assert layouts.chosen(20_000_000, 512, IndexConfig(memory_mib=16)).lists == 4096
    assert layouts.chosen(5_000_000, 512, IndexConfig(memory_mib=0.05)).lists == 8


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_pq"])
def test_a_segment_is_a_file_that_one_put_takes_however_much_memory_there_is(kind: layouts.Kind) -> None:
    config = IndexConfig(kind=kind, memory_mib=1 << 20)
    found = layouts.chosen(340_000_000, 512, config)
    assert found.file_bytes <= 4 << 30 < 5_000_000_000
    assert layouts.cut(340_000_000, found.segments - 1, 512, kind, config).file_bytes > 4 << 30
    assert layouts.chosen(1_500_000, 512, config).segments == 1
    with pytest.raises(ValueError, match=r"lists = 4000000: the centroids alone are a file of 7.81e\+03 MiB"):
        layouts.chosen(9, 512, IndexConfig(kind="ivf_flat", memory_mib=1 << 20, lists=4_000_000))


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_pq"])
def test_a_layout_knows_how_large_its_file_is(kind: layouts.Kind) -> None:
    config = IndexConfig(kind=kind, lists=None if kind == "flat" else 8)
    vectors_ND = clustered(4000, seed=0)
    told = layouts.chosen(4000, vectors_ND.shape[1], config).file_bytes
    assert told <= len(build(np.arange(4000), vectors_ND, config)) <= 1.02 * told


def clustered(num: int, *, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(20, 32))
    return normalised(centers[rng.integers(0, 20, num)] + 0.5 * rng.normal(size=(num, 32)))


def test_codes_propose_and_vectors_decide(tmp_path: Path) -> None:
    """Half-precision vectors judge what four bits propose; mapped from a file they answer the same."""
    vectors_ND, queries_BD = clustered(4000, seed=0), clustered(50, seed=1)
    blob = build(np.arange(4000) * 7, vectors_ND, CODED)
    (tmp_path / "segment").write_bytes(blob)
    index = Index.open([tmp_path / "segment"])
    assert index.segments[0].kind == "ivf_pq"
    halves_ND = index.vectors(np.arange(4000) * 7)
    assert np.abs(halves_ND - vectors_ND).max() < 2**-11
    found = index.search(queries_BD, 10)
    exact_BK, _ = brute_force(np.arange(4000) * 7, halves_ND, queries_BD, 10)
    assert recall(found.ids, exact_BK) > 0.8
    own_BK = np.einsum("bd,bkd->bk", queries_BD, halves_ND[found.ids // 7], dtype=np.float64)
    assert np.abs(found.scores - own_BK).max() < 1e-6
    assert np.array_equal(Index.open([blob]).search(queries_BD, 10).ids, found.ids)


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_pq"])
@given(seed=st.integers(0, 50), share=st.sampled_from([0.0, 0.01, 0.3, 1.0]), k=st.integers(1, 40))
def test_whatever_the_layout_only_the_allowed_and_living_answer(
    opened: Mapping[str, Index], kind: str, seed: int, share: float, k: int
) -> None:
    rng = np.random.default_rng(seed)
    gone, allowed = rng.choice(3000, 300, replace=False), np.flatnonzero(rng.random(3000) < share)
    index = opened[kind].removing(gone)
    within = index.within(allowed)
    living = np.setdiff1d(allowed, gone)
    found = index.search(clustered(3, seed=seed), k, within)
    assert within.count == len(living)
    assert found.ids.shape == (3, min(k, len(living)))
    assert np.isin(found.ids, living).all()
    assert all(len(np.unique(row)) == len(row) for row in found.ids)


@pytest.fixture(scope="module")
def opened() -> Mapping[str, Index]:
    vectors_ND = clustered(3000, seed=2)
    kinds: tuple[layouts.Kind, ...] = ("flat", "ivf_flat", "ivf_pq")
    configs = [IndexConfig(kind=kind, probes=1) for kind in kinds]
    return {one.kind: Index.open([build(np.arange(3000), vectors_ND, one)]) for one in configs}


def test_what_is_removed_and_added_counts_from_the_next_search_and_rewrites_nothing(
    opened: Mapping[str, Index],
) -> None:
    base, new_ND = opened["ivf_pq"], clustered(5, seed=77)
    changed = base.removing(np.arange(100)).adding(np.arange(5000, 5005), new_ND)
    assert changed.segments[0].inner is base.segments[0].inner
    assert np.array_equal(changed.search(new_ND, 1).ids[:, 0], np.arange(5000, 5005))
    assert not np.isin(changed.search(base.vectors(np.arange(100)), 30).ids, np.arange(100)).any()
    assert np.isin(base.search(base.vectors(np.arange(100)), 1).ids, np.arange(100)).mean() > 0.9
    with pytest.raises(ValueError, match="in two segments"):
        changed.adding(np.array([5000]), new_ND[:1])
    with pytest.raises(ValueError, match="ask it anew"):
        changed.search(new_ND, 1, base.within(np.arange(10)))


def test_a_coarse_quantiser_fitted_once_serves_later_segments() -> None:
    ids_N, vectors_ND = members(400, seed=0, coarse_grid=5)
    coarse = train(vectors_ND[:200], EXHAUSTIVE)
    parts = [build(ids_N[a:b], vectors_ND[a:b], EXHAUSTIVE, coarse) for a, b in ((0, 200), (200, 400))]
    found = Index.open(parts).search(vectors_ND[:9], 15)
    exact_BK, _ = brute_force(ids_N, vectors_ND, vectors_ND[:9], 15)
    assert np.array_equal(found.ids, exact_BK)
    with pytest.raises(ValueError, match="use what train"):
        build(ids_N, vectors_ND, EXHAUSTIVE, parts[0])


def test_vectors_come_back_by_id_dead_or_alive() -> None:
    ids_N, vectors_ND = members(90, seed=2)
    index = Index.open(cut(ids_N, vectors_ND, [40], FLAT), ids_N[:5])
    assert np.array_equal(index.vectors(ids_N[::-1]), vectors_ND[::-1])
    with pytest.raises(ValueError, match="has no id 900000"):
        index.vectors(np.array([ids_N[0], 900_000]))


def test_a_segment_opens_from_a_file(tmp_path: Path) -> None:
    ids_N, vectors_ND = members(20, seed=2)
    blob = build(ids_N, vectors_ND, FLAT)
    (tmp_path / "segment.faiss").write_bytes(blob)
    found = Index.open([tmp_path / "segment.faiss"]).search(vectors_ND, 3)
    assert np.array_equal(found.ids, Index.open([blob]).search(vectors_ND, 3).ids)


@pytest.mark.long
def test_an_index_is_searched_of_which_a_machine_keeps_one_segment(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors_ND, queries_BD = clustered(4000, seed=0), clustered(50, seed=1)
    segments = cut(np.arange(4000), vectors_ND, [1000, 2500], CODED)
    for number, segment in enumerate(segments):
        s3.write(f"{number}", segment)
    files = [Ref(s3, f"{number}", sha256(segment).hexdigest()) for number, segment in enumerate(segments)]
    monkeypatch.setenv(copies.CACHE_GIB, str(len(segments[0]) / (1 << 30)))
    found = Index.open(Ref.each_mapped(files))
    assert len([path for path in objects().iterdir() if path.name[0] != "."]) == 1
    forget()
    assert np.array_equal(found.search(queries_BD, 10).ids, Index.open(segments).search(queries_BD, 10).ids)


def test_members_that_cannot_be_are_refused() -> None:
    ids_N, vectors_ND = members(4, seed=0)
    for wrong_N in (ids_N[[0, 0, 1, 2]], ids_N - 100):
        with pytest.raises(ValueError, match="distinct and not negative"):
            build(wrong_N, vectors_ND, FLAT)
    for wrong_ND in (vectors_ND * 1.01, vectors_ND * np.nan):
        with pytest.raises(ValueError, match="normalise first"):
            build(ids_N, wrong_ND, FLAT)
    with pytest.raises(ValueError, match="need int64 ids"):
        build(ids_N.astype(np.int32), vectors_ND, FLAT)


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
        build(*members(20, seed=0), FLAT)[:-5],
        foreign(faiss.IndexFlatIP(WIDTH)),
        foreign(faiss.IndexHNSWFlat(WIDTH, 4)),
        bytes(faiss.serialize_index(faiss.IndexIDMap2(faiss.IndexFlatL2(WIDTH)))),
        bytes(faiss.serialize_index(faiss.IndexIDMap2(faiss.IndexHNSWFlat(WIDTH, 4)))),
    ],
    ids=["empty", "noise", "cut", "positional", "hnsw", "l2", "hnsw with ids"],
)
def test_what_build_did_not_write_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="segment"):
        Index.open([blob])


def test_a_segment_that_claims_more_bytes_than_it_has_is_refused() -> None:
    blob = bytearray(build(*members(20, seed=0), FLAT))
    place = bytes(blob).index((20 * WIDTH).to_bytes(8, "little"))  # how many floats follow
    blob[place : place + 8] = (1 << 34).to_bytes(8, "little")
    with pytest.raises(ValueError, match="FAISS can read"):
        Index.open([bytes(blob)])


def test_an_index_that_contradicts_itself_is_refused() -> None:
    ids_N, vectors_ND = members(20, seed=0)
    segment = build(ids_N, vectors_ND, FLAT)
    narrow = build(ids_N + 1000, normalised(vectors_ND[:, :4]), FLAT)
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
    index = Index.open([build(*members(20, seed=0), FLAT)])
    with pytest.raises(ValueError, match=message):
        index.search(queries_BD, k)


@pytest.mark.gpu
@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="FAISS sees no GPU")
@pytest.mark.parametrize("config", [FLAT, EXHAUSTIVE, CODED])
def test_a_gpu_answers_as_the_cpu_does(config: IndexConfig) -> None:
    vectors_ND = normalised(np.random.default_rng(0).normal(size=(2000, WIDTH)))
    segment, gone = build(np.arange(2000), vectors_ND, config), np.arange(0, 2000, 3)
    index = Index.open([segment], gone, gpus=True)
    assert index.segments[0].gpu is not None
    found = index.search(vectors_ND[:50], 20)
    alive = np.setdiff1d(np.arange(2000), gone)
    exact_BK, _ = brute_force(alive, vectors_ND[alive], vectors_ND[:50], 20)
    assert np.array_equal(found.ids, exact_BK)


@pytest.mark.gpu
@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="FAISS sees no GPU")
@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_lists_that_hold_too_few_are_no_members_that_a_gpu_makes_up(kind: Kind) -> None:
    """One list of sixteen is visited, and more is asked for than it holds."""
    vectors_ND = normalised(np.random.default_rng(0).normal(size=(2000, WIDTH)))
    config = IndexConfig(kind=kind, lists=16, probes=1)
    segment, gone = build(np.arange(2000), vectors_ND, config), np.arange(0, 2000, 3)
    found = Index.open([segment], gone, gpus=True).search(vectors_ND[:50], 400)
    assert found.ids.shape == (50, 400)
    assert all(len(np.unique(row)) == 400 for row in found.ids)
    assert not np.isin(found.ids, gone).any()


@given(seed=st.integers(0, 9), rows=st.lists(st.integers(0, 19), min_size=1, max_size=6))
def test_a_query_is_answered_in_company_as_it_is_alone(seed: int, rows: list[int]) -> None:
    """Also where codes propose, and where the vector of one of them is there many times."""
    vectors_ND = clustered(600, seed=seed)
    vectors_ND[:60] = vectors_ND[0]  # more equals than are fetched beyond k
    config = CODED.model_copy(update={"lists": 4, "probes": 2})
    index = Index.open([build(np.arange(600), vectors_ND, config)])
    queries_BD = np.concatenate([vectors_ND[:1], clustered(20, seed=99)])[rows]
    together = index.search(queries_BD, 10)
    for row, query_D in enumerate(queries_BD):
        alone = index.search(query_D[None], 10)
        assert np.array_equal(alone.ids[0], together.ids[row])
        assert np.array_equal(alone.scores[0], together.scores[row])
