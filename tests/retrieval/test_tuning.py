"""What accepts a segment: the recall that was measured, for queries that are no members."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infra.ending import GateRefused
from retrieval import building, tuning
from retrieval.encoders import normalised
from retrieval.index import Index
from retrieval.layouts import IndexConfig
from retrieval.recall import recall
from retrieval.segments import Floats, Ids
from retrieval.tuning import Built


def drawn(num: int, *, seed: int, width: int = 16) -> Floats:
    return normalised(np.random.default_rng(seed).normal(size=(num, width)))


def tuned(ids: Ids, members: Floats, queries: Floats, **settings: Any) -> Built:
    config = IndexConfig(**settings)
    return tuning.tuned(building.build(ids, members, config), queries, config)


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_a_segment_visits_as_few_lists_as_reach_the_recall_and_says_what_it_found(kind: str) -> None:
    members, queries = drawn(3000, seed=0), drawn(64, seed=1)
    ids = np.arange(3000) + 5
    found = {target: tuned(ids, members, queries, kind=kind, recall=target) for target in (0.3, 0.8)}
    small, large = (found[target].effort for target in (0.3, 0.8))
    assert (small.probes, small.reranked) < (large.probes, large.reranked)
    assert large.probes <= found[0.8].lists
    for target, built in found.items():
        answers = Index.open([built.segment]).search(queries, 10).ids
        measured = recall(answers, tuning.exact(Index.open([built.segment]).segments[0], queries))
        assert built.recall_at_10 == pytest.approx(measured, abs=1e-4)
        assert measured >= target
        assert built.facts["kind"] == kind


def test_a_segment_under_its_recall_fails_with_what_it_found() -> None:
    with pytest.raises(GateRefused, match=r"1 of them visited, finds 0\.\d+ of the 10 nearest, asked 0\.9"):
        tuned(np.arange(2000), drawn(2000, seed=0), drawn(50, seed=1), kind="ivf_flat", recall=0.9, probes=1)


def test_a_flat_segment_is_exact_and_nothing_is_asked() -> None:
    built = tuned(np.arange(20), drawn(20, seed=0), drawn(0, seed=1))
    assert (built.kind, built.recall_at_10, built.queries) == ("flat", 1.0, 0)


def test_queries_are_of_both_sides_and_from_all_over() -> None:
    images, texts = np.zeros((5000, 4), np.float32), np.ones((5000, 4), np.float32)
    queries = tuning.sampled(images, texts)
    assert len(queries) == tuning.QUERIES
    assert queries.mean() == 0.5
    assert tuning.sampled(images[:3], texts[:3]).tolist() == [[0] * 4, [1] * 4, [0] * 4]


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_pq"])
def test_parts_that_are_merged_answer_as_one_that_was_built(kind: str) -> None:
    members, queries, config = drawn(900, seed=4), drawn(20, seed=5), IndexConfig(kind=kind, probes=10**6)
    ids = np.random.default_rng(0).permutation(9000)[:900]
    trained = building.train(members, config)
    cuts = [slice(0, 400), slice(400, 400), slice(400, 900)]
    merged = building.merge([building.part(ids[cut], members[cut], trained) for cut in cuts], trained)
    whole = building.build(ids, members, config, trained)
    one, other = (Index.open([segment]) for segment in (merged, whole))
    assert np.array_equal(one.live_ids, np.sort(ids))
    assert np.array_equal(one.vectors(ids), other.vectors(ids))
    found, expected = one.search(queries, 12), other.search(queries, 12)
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(
        one.removing(ids[:450]).search(queries, 12).ids, other.removing(ids[:450]).search(queries, 12).ids
    )
