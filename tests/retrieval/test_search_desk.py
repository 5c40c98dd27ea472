"""Laws of a desk: a search in company is answered as it is alone, and a text is encoded once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.searching import mixed
from retrieval.serving import desk as desks
from retrieval.serving.catalogue import Catalogue
from retrieval.serving.desk import Asked, Cancelled, Desk, Like, Ranked, Seen, Square
from retrieval.serving.queries import Given, Picture, Words
from tokenizer_service.serving.looking import Unfit

from .searched import SHAPE, SIDE, WIDTH, catalogue, direction, jpeg, member, searcher, vectors

NUM = 40
VECTORS = vectors(NUM)


def everybody() -> Catalogue:
    return catalogue([member(number) for number in range(NUM)])


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    found = asyncio.run(Desk.ready(lambda _: searcher(everybody().ids_N, VECTORS), SHAPE))
    yield found
    found.close()


@st.composite
def asked(draw: st.DrawFn) -> Seen:
    parts = draw(
        st.lists(
            st.sampled_from(["a", "b", "c"]).map(Words)
            | st.integers(0, NUM - 1).map(lambda number: Like(3 * number))
            | st.integers(0, 9).map(lambda seed: Given(direction(str(seed))))
            | st.integers(0, 255).map(lambda grey: Square(np.full((SIDE, SIDE, 3), grey, np.uint8))),
            min_size=1,
            max_size=3,
        )
    )
    weights = draw(st.lists(st.sampled_from([-1.0, 0.5, 1.0]), min_size=len(parts), max_size=len(parts)))
    members = everybody()
    among = members.subset(np.random.default_rng(draw(st.integers(0, 2))).random(NUM) < 0.7)
    search = Asked(
        parts=(),
        weights=tuple(weights),
        k=draw(st.integers(1, 50)),
        among=among.bits,
        without=tuple(draw(st.sets(st.sampled_from(members.ids_N.tolist()), max_size=3))),
    )
    return Seen(asked=search, parts=tuple(parts))


def exact(seen: Seen) -> tuple[list[int], list[float]] | None:
    """By a loop over all members, ties by id."""

    def vector(part: Words | Square | Given | Like) -> np.ndarray:
        match part:
            case Words():
                return direction(part.text)
            case Like():
                return VECTORS[part.id // 3]
            case Given():
                return part.vector_D
            case Square():
                grey = np.pad(np.full(3, float(part.pixels_HWC[0, 0, 0]) - 127), (0, WIDTH - 3))
                return (grey / (np.linalg.norm(grey) or 1)).astype(np.float32)

    query_D = mixed(np.stack([vector(part) for part in seen.parts]), seen.asked.weights)
    if not query_D.any():
        return None
    scores_N = (VECTORS.astype(np.float64) @ query_D.astype(np.float64)).astype(np.float32)
    allowed = {*desks.ids_of(seen.asked.among).tolist()} - {*seen.asked.without}
    order = sorted(allowed, key=lambda id_: (-scores_N[id_ // 3], id_))[: seen.asked.k]
    return order, [float(scores_N[id_ // 3]) for id_ in order]


@given(batch=st.lists(asked(), min_size=1, max_size=6))
def test_in_company_a_search_is_answered_as_brute_force_answers_it_alone(
    desk: Desk, batch: list[Seen]
) -> None:
    for seen, found in zip(batch, desk.answers(batch), strict=True):
        expected = exact(seen)
        if expected is None:
            assert isinstance(found, Cancelled)
            continue
        assert isinstance(found, Ranked)
        ids, scores = expected
        assert found.scores.tolist() == pytest.approx(scores, abs=1e-5)
        # Rounding may turn near-equals round; nobody answers who may not, or twice.
        assert len({*found.ids.tolist()}) == len(ids)
        near = {id_ for id_, score in zip(ids, scores, strict=True) if score > scores[-1] + 1e-5}
        assert near <= {*found.ids.tolist()} <= {*desks.ids_of(seen.asked.among).tolist()}
        assert {*found.ids.tolist()}.isdisjoint(seen.asked.without)


def search(text: str) -> Seen:
    words = Words(text)
    every = everybody().subset(np.ones(NUM, np.bool_))
    return Seen(asked=Asked(parts=(words,), weights=(1.0,), k=3, among=every.bits), parts=(words,))


def test_a_text_is_encoded_once_until_too_many_others_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "TEXTS", 3)
    found = Desk(searcher(everybody().ids_N, VECTORS), SHAPE)
    for texts in ("aab", "ba", "cd", "a"):
        found.answers([search(text) for text in texts])
    encoded = found.searcher.encoder.texts  # type: ignore[attr-defined]  # it counts them
    assert encoded == ["a", "b", "c", "d"]  # d put b out, which nobody asked for last
    found.answers([search("b")])
    assert encoded[-1] == "b"
    found.close()


def test_a_batch_is_told_once_by_one_of_its_searches(desk: Desk) -> None:
    found = desk.answers([search(text) for text in "abc"])
    assert [one.batch for one in found if isinstance(one, Ranked)] == [3, 0, 0]


def test_a_picture_is_looked_at_in_another_process_and_one_that_is_none_is_an_answer(desk: Desk) -> None:
    ask = Asked(parts=(Picture(jpeg((200, 10, 10))), Words("a")), weights=(1.0, 1.0), k=1, among=b"")
    seen = asyncio.run(desk.seen(ask))
    assert isinstance(seen, Seen)
    square, words = seen.parts
    assert isinstance(square, Square)
    assert square.pixels_HWC.shape == (SIDE, SIDE, 3)
    assert abs(square.pixels_HWC.reshape(-1, 3).mean(axis=0) - (200, 10, 10)).max() < 4
    assert words == Words("a")
    broken = Asked(parts=(Picture(b"GIF89a"),), weights=(1.0,), k=1, among=b"")
    unfit = asyncio.run(desk.seen(broken))
    assert isinstance(unfit, Unfit)
    assert unfit.kind == "format"
