"""Laws of segments that share their lists: as one they answer as each of them and all together would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import building, judging
from retrieval.encoders import normalised
from retrieval.families import as_one, families, part_of_one
from retrieval.index import Index
from retrieval.layouts import IndexConfig, Kind
from retrieval.recall import recall
from retrieval.segments import Effort, Floats
from retrieval.tuning import cost, tuned

NUM, WIDTH = 3000, 32
CUTS = (0, 900, 1000, 2400, NUM)
KINDS: tuple[Kind, ...] = ("ivf_flat", "ivf_pq")


def drawn(num: int, *, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(7).normal(size=(30, WIDTH))
    return normalised(centers[rng.integers(0, 30, num)] + 0.5 * rng.normal(size=(num, WIDTH)))


def segments_of(
    vectors_ND: Floats, kind: Kind, *, probes: int = 4, cuts: Sequence[int] = CUTS
) -> list[bytes]:
    """Of the same lists, whose ids are in no order."""
    ids_N = np.random.default_rng(3).permutation(len(vectors_ND))
    trained = building.train(vectors_ND, IndexConfig(kind=kind, lists=32, probes=probes))
    slices = [slice(start, stop) for start, stop in pairwise(cuts)]
    return [building.merge([building.part(ids_N[at], vectors_ND[at], trained)], trained) for at in slices]


@pytest.fixture(scope="module")
def opened() -> Mapping[str, tuple[Index, Index]]:
    """By kind: four segments, and one of all their members."""
    vectors_ND = drawn(NUM, seed=0)
    return {
        kind: (
            Index.open(segments_of(vectors_ND, kind)),
            Index.open(segments_of(vectors_ND, kind, cuts=(0, NUM))),
        )
        for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_who_shares_lists_is_searched_as_one(kind: Kind, opened: Mapping[str, tuple[Index, Index]]) -> None:
    of_lists = opened[kind][0]
    others = Index.open([building.build(np.arange(5000, 5300), drawn(300, seed=9), IndexConfig(kind=kind))])
    flat = Index.open([building.build(np.arange(6000, 6010), drawn(10, seed=9), IndexConfig())])
    every = [*of_lists.segments[:2], *others.segments, *of_lists.segments[2:], *flat.segments]
    assert families(every) == ((0, 1, 3, 4), (2,), (5,))
    assert of_lists.families == ((0, 1, 2, 3),)
    on_gpus = [replace(one, gpu=object()) for one in of_lists.segments]
    assert families(on_gpus) == ((0,), (1,), (2,), (3,))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 30), share=st.sampled_from([0.0, 0.3, 0.97]), k=st.integers(1, 60))
def test_as_one_they_find_what_one_segment_of_all_finds(
    opened: Mapping[str, tuple[Index, Index]], kind: Kind, seed: int, share: float, k: int
) -> None:
    gone = np.flatnonzero(np.random.default_rng(seed).random(NUM) < share)
    cut, whole = (index.removing(gone) for index in opened[kind])
    queries_BD = drawn(6, seed=100 + seed)
    one, other = cut.search(queries_BD, k), whole.search(queries_BD, k)
    assert one.ids.shape == other.ids.shape
    assert not np.isin(one.ids, gone).any()
    assert all(len(np.unique(row)) == len(row) for row in one.ids)
    if kind == "ivf_flat":  # by codes, more are judged as one than by a segment, and others
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.scores, other.scores)
    elif one.ids.size:
        assert recall(one.ids, other.ids) > 0.6


@pytest.mark.long
@pytest.mark.parametrize("pieces", [1, 4, 16])
def test_what_is_measured_of_each_holds_for_all_as_one(pieces: int) -> None:
    """Members that codes tell apart badly, of which 16 segments that were measured alone found 0.91."""
    vectors_ND, tuning_BD, queries_BD = (of_a_plane(num, seed=num) for num in (40_000, 256, 257))
    config = IndexConfig(kind="ivf_pq", lists=64)
    trained = building.train(vectors_ND[:8192], config)
    edges = np.linspace(0, len(vectors_ND), pieces + 1).astype(np.int64)
    built = [
        tuned(
            building.merge([building.part(np.arange(a, b), vectors_ND[a:b], trained)], trained),
            tuning_BD,
            config,
            pieces=pieces,
        )
        for a, b in pairwise(edges)
    ]
    index = Index.open([one.segment for one in built])
    assert len(index.families) == 1
    _, truth_BK = faiss.knn(queries_BD, vectors_ND, 10, faiss.METRIC_INNER_PRODUCT)
    found = recall(index.search(queries_BD, 10).ids, truth_BK)
    assert found >= config.recall
    told = float(np.mean([one.recall_at_10 for one in built]))
    assert told - 0.02 < found  # others were asked, and the share of one is further off than ten of all


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_one_answers_its_share(opened: Mapping[str, tuple[Index, Index]], kind: Kind) -> None:
    whole, queries_BD = opened[kind][1].trying(Effort(probes=32, reranked=8)), drawn(70, seed=13)
    (segment,) = whole.segments
    assert np.array_equal(part_of_one(segment, queries_BD, 10, 1), whole.search(queries_BD, 10).ids)
    recalls = []
    for pieces, share in ((3, 4), (10, 1), (67, 1)):
        found = part_of_one(segment, queries_BD, 10, pieces)
        assert found.shape == (70, share)
        recalls.append(recall(found, whole.search(queries_BD, share).ids))
    if kind == "ivf_flat":
        assert recalls == [1, 1, 1]
    else:  # 70, 21 and 4 are judged
        assert recalls[0] > recalls[1] > recalls[2] > 0.2
    narrow = opened[kind][1].trying(Effort(probes=1, reranked=64)).segments[0]
    assert (part_of_one(narrow, queries_BD, 1000, 1) < 0).any()  # one list of 32 has no thousand


def test_what_pieces_judge_together_costs_each_a_share(opened: Mapping[str, tuple[Index, Index]]) -> None:
    (segment,) = opened["ivf_flat"][1].segments
    wide, deep = Effort(probes=32, reranked=1), Effort(probes=1, reranked=4)
    assert cost(segment, wide, 1) < cost(segment, deep, 1)
    assert cost(segment, wide, 67) > cost(segment, deep, 67)


def of_a_plane(num: int, *, seed: int) -> Floats:
    """24 dimensions among 128."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(7)
    plane, centers = fixed.normal(size=(24, 128)), fixed.normal(size=(200, 24))
    of_clusters = centers[rng.integers(0, 200, num)] + rng.normal(size=(num, 24))
    return normalised(of_clusters @ plane + 0.5 * rng.normal(size=(num, 128)))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 20), share=st.sampled_from([0.02, 0.5, 1.0]))
def test_among_some_only_they_answer_and_nearly_the_nearest(
    opened: Mapping[str, tuple[Index, Index]], kind: Kind, seed: int, share: float
) -> None:
    index, queries_BD = opened[kind][0], drawn(6, seed=200 + seed)
    allowed = np.flatnonzero(np.random.default_rng(seed).random(NUM) < share)
    some = index.within(allowed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.families.GATHERED", -1)  # so few are compared one by one otherwise
        found = index.search(queries_BD, 10, some)
    assert np.isin(found.ids, allowed).all()
    assert recall(found.ids, index.search(queries_BD, 10, some).ids) > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_asks_and_nothing_is_asked(opened: Mapping[str, tuple[Index, Index]], kind: Kind) -> None:
    index = opened[kind][0]
    assert index.search(np.zeros((0, WIDTH), np.float32), 5).ids.shape == (0, 5)
    nothing = index.search(np.zeros((2, WIDTH), np.float32), 5)
    assert nothing.ids.tolist() == [[0, 1, 2, 3, 4]] * 2  # all are as near, and go by id
    some = index.removing(np.arange(3)).within(np.arange(1, NUM, 2))
    others = index.removing(np.arange(3)).search(np.zeros((1, WIDTH), np.float32), 3, some)
    assert others.ids.tolist() == [[3, 5, 7]]
    assert (nothing.scores == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@given(at=st.integers(0, 149), k=st.integers(1, 40))
def test_a_query_gets_the_same_answer_alone_and_in_company(
    opened: Mapping[str, tuple[Index, Index]], kind: Kind, at: int, k: int
) -> None:
    index, queries_BD = opened[kind][0], drawn(150, seed=8)
    alone, together = index.search(queries_BD[at : at + 1], k), index.search(queries_BD, k)
    assert np.array_equal(alone.ids[0], together.ids[at])
    assert np.array_equal(alone.scores[0], together.scores[at])


@pytest.mark.parametrize("kind", KINDS)
def test_equal_vectors_are_cut_by_id(kind: Kind) -> None:
    vectors_ND = np.concatenate([drawn(400, seed=1), np.repeat(drawn(1, seed=2), 600, axis=0)])
    index = Index.open(segments_of(vectors_ND, kind, cuts=(0, 500, 800, 1000)))
    equal = np.sort(np.random.default_rng(3).permutation(1000)[400:])
    assert np.array_equal(index.search(vectors_ND[-1:], 20).ids[0], equal[:20])


@pytest.mark.parametrize("kind", KINDS)
def test_lists_that_hold_too_few_are_filled_from_the_others(kind: Kind) -> None:
    vectors_ND = drawn(400, seed=1)
    index = Index.open(segments_of(vectors_ND, kind, probes=1, cuts=(0, 150, 400)))
    found = index.search(vectors_ND[:3], 400).ids
    assert np.array_equal(np.sort(found, axis=1), np.tile(np.arange(400), (3, 1)))
    nobody = index.removing(np.arange(400))
    assert nobody.search(vectors_ND[:3], 5).ids.shape == (3, 0)
    last = index.removing(np.arange(399))
    assert last.search(vectors_ND[:3], 5).ids.tolist() == [[399]] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_has_no_centroids_and_is_no_segment(kind: Kind) -> None:
    vectors_ND, config = drawn(400, seed=1), IndexConfig(kind=kind, lists=32)
    trained = building.train(vectors_ND, config)
    part = building.part(np.arange(400), vectors_ND, trained)
    whole = building.build(np.arange(400), vectors_ND, config, trained)
    assert len(whole) - len(part) == 32 * WIDTH * 4
    assert building.merge([part], trained) == whole
    with pytest.raises(ValueError, match="32 lists has 0 centroids"):
        Index.open([part])


def test_the_greatest_effort_of_a_family_is_that_of_all(
    opened: Mapping[str, tuple[Index, Index]],
) -> None:
    index = opened["ivf_pq"][0]
    family = [replace(one, effort=Effort(probes=1, reranked=1)) for one in index.segments]
    family[2] = replace(family[2], effort=Effort(probes=32, reranked=16))
    queries_BD = drawn(20, seed=6)
    hard = [replace(one, effort=Effort(probes=32, reranked=16)) for one in index.segments]
    bits = [one.alive for one in index.segments]
    assert np.array_equal(as_one(family, queries_BD, 10, bits).ids, as_one(hard, queries_BD, 10, bits).ids)


def test_what_as_one_costs_is_the_judging_of_one(
    opened: Mapping[str, tuple[Index, Index]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each candidate that is judged is a look at a vector that may lie on disk."""
    index, judged = opened["ivf_pq"][0], []
    kept = judging.inner_products

    def counted(queries_BD: Floats, vectors_BCD: Floats) -> Floats:
        judged.append(vectors_BCD.shape[:2])
        return kept(queries_BD, vectors_BCD)

    monkeypatch.setattr(judging, "inner_products", counted)
    index.search(drawn(1, seed=4), 10)
    assert judged[0] == (1, 4 * (10 + judging.MARGIN))
    assert len(judged) == 1
