"""Laws of what an example may see, for any members, and the boundary of every rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import exclude
from retrieval.align import document_vectors
from retrieval.building import build
from retrieval.encoders import normalised
from retrieval.exclude import Candidates, Members, NeighborConfig, Sides, Targets
from retrieval.index import Index
from retrieval.layouts import IndexConfig
from retrieval.segments import Floats, Ids

LOOSE = NeighborConfig(max_score=1.0, max_likeness=1.0)


class World:
    """Documents with both sides' vectors, in an index, with groups and licences."""

    def __init__(
        self, images_ND: Floats, texts_ND: Floats, *, groups: Sequence[int], admissible: Sequence[bool]
    ) -> None:
        self.ids = np.arange(len(images_ND), dtype=np.int64) * 10
        self.documents = document_vectors(images_ND, texts_ND)
        self.index = Index.open([build(self.ids, self.documents, IndexConfig())])
        self.members = Members(
            ids=self.ids,
            groups=np.asarray(groups, np.int64),
            contributors=np.arange(len(self.ids)) % 3,
            admissible=np.asarray(admissible, np.bool_),
        )
        sides = Sides(images_ND, texts_ND)
        self.targets = Targets(ids=self.ids, whole=sides, queries=sides)

    def choose(self, config: NeighborConfig) -> Candidates:
        return exclude.choose(self.targets, self.index, self.members, config)


def random_world(num: int, *, seed: int, spread: float) -> World:
    """``spread`` below 1 crowds documents together, so that every rule has something to refuse."""
    rng = np.random.default_rng(seed)
    centers_ND = rng.normal(size=(4, 6))[rng.integers(0, 4, num)]
    sides = [normalised(centers_ND + spread * rng.normal(size=(num, 6))) for _ in range(2)]
    return World(
        *sides, groups=rng.integers(0, num // 2, num).tolist(), admissible=(rng.random(num) < 0.8).tolist()
    )


def lists(found: Candidates) -> list[tuple[Ids, Floats, list[str]]]:
    slices = [slice(*found.starts[b : b + 2]) for b in range(len(found.starts) - 1)]
    return [(found.ids[at], found.scores[at], [exclude.VIA[code] for code in found.via[at]]) for at in slices]


@given(
    seed=st.integers(0, 50),
    spread=st.sampled_from([0.1, 0.5, 2.0]),
    candidates=st.integers(1, 12),
    fetch=st.integers(1, 60),
    cap=st.sampled_from([0.5, 0.9, 1.0]),
)
def test_no_candidate_breaks_a_rule(
    seed: int, spread: float, candidates: int, fetch: int, cap: float
) -> None:
    world = random_world(40, seed=seed, spread=spread)
    config = NeighborConfig(candidates=candidates, fetch=fetch, max_score=cap, max_likeness=cap)
    for b, (ids_C, scores_C, via_C) in enumerate(lists(world.choose(config))):
        rows_C = ids_C // 10
        assert len(ids_C) <= candidates
        assert len(set(ids_C.tolist())) == len(ids_C)
        assert b not in rows_C
        assert not (world.members.groups[rows_C] == world.members.groups[b]).any()
        assert world.members.admissible[rows_C].all()
        by_image_C = world.documents[rows_C] @ world.targets.whole.images[b]
        by_text_C = world.documents[rows_C] @ world.targets.whole.texts[b]
        assert np.maximum(by_image_C, by_text_C).max(initial=0) <= cap + 1e-6
        likeness_CC = world.documents[rows_C] @ world.documents[rows_C].T
        assert np.triu(likeness_CC, 1).max(initial=0) <= cap + 1e-6
        own_C = np.where(np.array(via_C) == "image", by_image_C, by_text_C)
        assert np.abs(scores_C - own_C).max(initial=0) < 1e-6


@given(seed=st.integers(0, 30))
def test_what_is_free_is_found_when_nothing_is_capped(seed: int) -> None:
    world = random_world(40, seed=seed, spread=1.0)
    groups_N, admissible_N = world.members.groups, world.members.admissible
    for b, (ids_C, _, _) in enumerate(lists(world.choose(LOOSE.model_copy(update={"candidates": 40})))):
        free_N = admissible_N & (groups_N != groups_N[b])
        assert set(ids_C.tolist()) == set(world.ids[free_N].tolist())


@settings(max_examples=30)
@given(seed=st.integers(0, 30), candidates=st.integers(1, 20))
def test_the_lists_alternate_and_each_is_best_first(seed: int, candidates: int) -> None:
    world = random_world(40, seed=seed, spread=1.0)
    for _, scores_C, via_C in lists(world.choose(LOOSE.model_copy(update={"candidates": candidates}))):
        codes_C = np.array(via_C)
        for side in exclude.VIA:
            assert (np.diff(scores_C[codes_C == side]) <= 0).all()
        assert via_C[:1] == ["image"]


def test_the_first_of_each_search_come_in_turn() -> None:
    """Image and text of the target point apart, so the two searches find different documents."""
    image_D, text_D = np.eye(4, dtype=np.float32)[:2]
    others = [image_D + 0.5 * text_D, text_D + 0.4 * image_D, 0.8 * image_D - text_D, 0.7 * text_D - image_D]
    sides_ND = normalised(np.stack([image_D, *others]))
    texts_ND = sides_ND.copy()
    texts_ND[0] = text_D
    world = World(sides_ND, texts_ND, groups=range(5), admissible=[True] * 5)
    ids_C, _, via_C = lists(world.choose(LOOSE))[0]
    assert ids_C.tolist() == [10, 20, 30, 40]
    assert via_C == ["image", "text", "image", "text"]


def test_a_score_at_the_cap_is_allowed_and_one_above_is_not() -> None:
    """Documents at cosines of about 0.6 and of 0 from the target."""
    sides_ND = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], np.float32)
    world = World(sides_ND, sides_ND, groups=range(3), admissible=[True] * 3)
    score = world.index.search(sides_ND[:1], 2).scores[0, 1]
    below = np.nextafter(score, np.float32(0))
    assert score == pytest.approx(0.6)
    for cap, found in ((score, [10, 20]), (below, [20])):
        assert lists(world.choose(NeighborConfig(max_score=float(cap))))[0][0].tolist() == found


def test_a_lookalike_is_refused_even_when_its_caption_led_to_it() -> None:
    """Document 1 has the target's picture and another caption; its text score alone is low."""
    image_D, text_D, other_D = np.eye(3, dtype=np.float32)
    images_ND = np.stack([image_D, image_D, other_D])
    texts_ND = normalised(np.stack([text_D, image_D + 0.2 * text_D, other_D]))
    world = World(images_ND, texts_ND, groups=range(3), admissible=[True] * 3)
    by_text = world.index.search(texts_ND[:1], 3)
    assert by_text.ids[0].tolist() == [0, 10, 20]
    assert by_text.scores[0, 1] < 0.3
    assert lists(world.choose(NeighborConfig()))[0][0].tolist() == [20]


def test_of_two_alike_candidates_the_better_stays() -> None:
    sides_ND = normalised(np.array([[1, 0, 0], [0.8, 0.6, 0], [0.79, 0.6, 0.02], [0, 0, 1]], np.float32))
    world = World(sides_ND, sides_ND, groups=range(4), admissible=[True] * 4)
    assert lists(world.choose(NeighborConfig()))[0][0].tolist() == [10, 30]
    assert lists(world.choose(NeighborConfig(max_likeness=1.0)))[0][0].tolist() == [10, 20, 30]


@settings(max_examples=30)
@given(seed=st.integers(0, 30), most=st.integers(1, 6))
def test_no_asset_is_cited_more_often_than_it_may(seed: int, most: int) -> None:
    world = random_world(40, seed=seed, spread=0.5)
    free, capped = world.choose(LOOSE), world.choose(LOOSE.model_copy(update={"max_citations": most}))
    counts, before = (np.bincount(found.ids // 10, minlength=40) for found in (capped, free))
    assert counts.max() <= most
    assert before.max() > most
    assert (counts >= np.minimum(before, 1)).all()


@given(seed=st.integers(0, 30), share=st.sampled_from([0.05, 0.2, 1.0]))
def test_no_contributor_is_cited_more_often_than_its_share(seed: int, share: float) -> None:
    world = random_world(40, seed=seed, spread=0.5)
    config = LOOSE.model_copy(update={"max_contributor_share": share, "candidates": 8})
    found = world.choose(config)
    counts = np.bincount(world.members.contributors[found.ids // 10], minlength=3)
    assert counts.max() <= share * 8 * 40
    assert counts.min() > 0


def test_a_copy_is_refused_though_dropout_made_the_query_unlike_it() -> None:
    """Judged against the whole document: only the search sees what dropout left."""
    world = random_world(40, seed=3, spread=0.5)
    elsewhere = Sides(*(normalised(np.roll(side_ND, 1, axis=1)) for side_ND in world.targets.whole.both))
    targets = Targets(ids=world.ids, whole=world.targets.whole, queries=elsewhere)
    config = NeighborConfig(max_score=0.5, max_likeness=1.0)
    found, other = (
        exclude.choose(one, world.index, world.members, config) for one in (targets, world.targets)
    )
    assert not np.array_equal(found.scores, other.scores)
    for b, (ids_C, scores_C, via_C) in enumerate(lists(found)):
        rows_C = ids_C // 10
        for side_ND in world.targets.whole.both:
            assert (world.documents[rows_C] @ side_ND[b]).max(initial=0) <= 0.5 + 1e-6
        for row, score, via in zip(rows_C, scores_C, via_C, strict=True):
            query_ND = elsewhere.images if via == "image" else elsewhere.texts
            assert score == pytest.approx(world.documents[row] @ query_ND[b], abs=1e-5)


@settings(max_examples=10)
@given(seed=st.integers(0, 10), num=st.integers(0, 40))
def test_a_target_gets_the_same_list_in_any_company(seed: int, num: int) -> None:
    world = random_world(150, seed=seed, spread=0.5)
    config = NeighborConfig(fetch=20)
    some = exclude.choose(world.targets[70 : 70 + num], world.index, world.members, config)
    whole = lists(world.choose(config))[70 : 70 + num]
    assert len(some.starts) == num + 1
    for (ids_C, scores_C, via_C), (all_C, all_scores_C, all_via_C) in zip(lists(some), whole, strict=True):
        assert np.array_equal(ids_C, all_C)
        assert np.array_equal(scores_C, all_scores_C)
        assert via_C == all_via_C


def test_ids_that_are_no_members_are_refused() -> None:
    world = random_world(10, seed=0, spread=1.0)
    few = Members(
        ids=world.ids[:5],
        groups=world.members.groups[:5],
        contributors=world.members.contributors[:5],
        admissible=world.members.admissible[:5],
    )
    with pytest.raises(ValueError, match="is no member"):
        exclude.choose(world.targets, world.index, few, NeighborConfig())


@given(via=st.lists(st.integers(0, 1), max_size=10), num=st.integers(0, 6), seed=st.integers(0, 100))
def test_a_draw_is_in_order_and_among_the_first_two_of_each(via: list[int], num: int, seed: int) -> None:
    places = exclude.draw(via, num, np.random.default_rng(seed))
    first = [place for place, code in enumerate(via) if via[:place].count(code) < 2]
    assert len(places) == min(num, len(first))
    assert sorted(set(places.tolist())) == places.tolist()
    assert set(places.tolist()) <= set(first)


def test_three_of_four_are_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([exclude.draw([0, 1, 0, 1, 0], 3, rng) for _ in range(2000)])
    # Each place in 3 of 4 draws: three standard deviations of 2,000 are 58.
    assert np.abs(np.bincount(drawn, minlength=5) - [1500, 1500, 1500, 1500, 0]).max() < 60
