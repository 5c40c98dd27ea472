"""Laws of a desk: a search in company is answered as it is alone, and a text is encoded once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.serving.door import Busy
from retrieval.searching import Searcher, mixed
from retrieval.segments import Floats, Ids, Mask
from retrieval.serving import desk as desks
from retrieval.serving import subsets
from retrieval.serving.asking import Asked, Cancelled, Facts, Forgotten, Like, Ranked, Ready, Sought
from retrieval.serving.catalogue import Catalogue
from retrieval.serving.desk import Desk, looked_at
from retrieval.serving.queries import Given, Picture, Words
from retrieval.serving.shards import Sharded
from tokenizer_service.serving.looking import Unfit

from .searched import SHAPE, SIDE, WIDTH, Here, catalogue, direction, jpeg, member, searcher, vectors

NUM = 40
VECTORS = vectors(NUM)


@functools.cache
def everybody() -> Catalogue:
    return catalogue([member(number) for number in range(NUM)])


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    found = asyncio.run(Desk.ready(lambda _: searcher(everybody().ids_N, VECTORS), SHAPE))
    yield found
    found.close()


@st.composite
def asked(draw: st.DrawFn) -> Ready:
    parts = draw(
        st.lists(
            st.sampled_from(["a", "b", "c"]).map(Words)
            | st.integers(0, NUM - 1).map(lambda number: Like(3 * number))
            | st.integers(0, 9).map(lambda seed: Given(direction(str(seed)))),
            min_size=1,
            max_size=3,
        )
    )
    weights = draw(st.lists(st.sampled_from([-1.0, 0.5, 1.0]), min_size=len(parts), max_size=len(parts)))
    members = everybody()
    among = subsets.of(members, np.random.default_rng(draw(st.integers(0, 2))).random(NUM) < 0.7)
    search = Asked(
        parts=(),
        weights=tuple(weights),
        k=draw(st.integers(1, 50)),
        among=among.among,
        without=tuple(draw(st.sets(st.sampled_from(members.ids_N.tolist()), max_size=3))),
    )
    return Ready(asked=search, parts=tuple(parts))


def ids(ready: Ready) -> np.ndarray:
    assert ready.asked.among.bits is not None
    return subsets.ids_of(ready.asked.among.bits)


def exact(ready: Ready) -> tuple[list[int], list[float]] | None:
    """By a loop over all members, ties by id."""

    def vector(part: Words | Given | Like) -> np.ndarray:
        match part:
            case Words():
                return direction(part.text)
            case Like():
                return VECTORS[part.id // 3]
            case Given():
                return part.vector_D

    query_D = mixed(np.stack([vector(part) for part in ready.parts]), ready.asked.weights)
    if not query_D.any():
        return None
    scores_N = (VECTORS.astype(np.float64) @ query_D.astype(np.float64)).astype(np.float32)
    allowed = {*ids(ready).tolist()} - {*ready.asked.without}
    order = sorted(allowed, key=lambda id_: (-scores_N[id_ // 3], id_))[: ready.asked.k]
    return order, [float(scores_N[id_ // 3]) for id_ in order]


@given(batch=st.lists(asked(), min_size=1, max_size=6))
def test_in_company_a_search_is_answered_as_brute_force_answers_it_alone(
    desk: Desk, batch: list[Ready]
) -> None:
    for ready, found in zip(batch, desk.answers(batch), strict=True):
        expected = exact(ready)
        if expected is None:
            assert isinstance(found, Cancelled)
            continue
        assert isinstance(found, Ranked)
        order, scores = expected
        assert found.scores.tolist() == pytest.approx(scores, abs=1e-5)
        # Rounding may turn near-equals round; nobody answers who may not, or twice.
        assert len({*found.ids.tolist()}) == len(order)
        near = {id_ for id_, score in zip(order, scores, strict=True) if score > scores[-1] + 1e-5}
        assert near <= {*found.ids.tolist()} <= {*ids(ready).tolist()}
        assert {*found.ids.tolist()}.isdisjoint(ready.asked.without)


def search(text: str) -> Ready:
    words = Words(text)
    every = subsets.of(everybody(), np.ones(NUM, np.bool_))
    return Ready(asked=Asked(parts=(words,), weights=(1.0,), k=3, among=every.among), parts=(words,))


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


def test_ids_that_were_sent_are_remembered_by_their_name_until_others_put_them_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desks, "SUBSETS", 2)
    found = Desk(searcher(everybody().ids_N, VECTORS), SHAPE)

    def asked(first: int, *, whole: bool) -> Ready:
        among = subsets.of(everybody(), np.arange(NUM) >= first).among
        ready = search("a")
        return replace(ready, asked=replace(ready.asked, among=among if whole else among.named))

    (unknown,) = found.answers([asked(0, whole=False)])
    assert isinstance(unknown, Forgotten)
    sent, named, other = found.answers([asked(0, whole=True), asked(0, whole=False), asked(9, whole=False)])
    assert isinstance(sent, Ranked)
    assert isinstance(named, Ranked)
    assert np.array_equal(sent.ids, named.ids)
    assert isinstance(other, Forgotten)
    for first in (1, 2):
        found.answers([asked(first, whole=True)])
    assert [type(one) for one in found.answers([asked(0, whole=False), asked(2, whole=False)])] == [
        Forgotten,
        Ranked,
    ]
    found.close()


def test_a_batch_is_told_once_by_one_of_its_searches(desk: Desk) -> None:
    found = desk.answers([search(text) for text in "abc"])
    assert [one.batch for one in found if isinstance(one, Ranked)] == [3, 0, 0]


def test_a_picture_is_looked_at_in_another_process_and_becomes_a_vector(desk: Desk) -> None:
    color = (200, 10, 10)
    square = asyncio.run(desk.square(jpeg(color)))
    assert not isinstance(square, Unfit)
    assert square.shape == (SIDE, SIDE, 3)
    alone, beside = (asyncio.run(desk.pictured(squares))[0] for squares in ([square], [square, square[::-1]]))
    assert np.array_equal(alone, beside)
    expected_D = np.pad(np.asarray(color, np.float64) - 127, (0, WIDTH - 3))
    assert alone @ (expected_D / np.linalg.norm(expected_D)) > 0.999


def test_a_search_by_a_picture_that_is_none_is_answered_and_the_next_one_is_too(desk: Desk) -> None:
    every = subsets.of(everybody(), np.ones(NUM, np.bool_)).among
    here = Here(desk)
    unfit = asyncio.run(here.search(Asked(parts=(Picture(b"GIF89a"),), weights=(1.0,), k=1, among=every)))
    assert isinstance(unfit, Unfit)
    assert unfit.kind == "format"
    picture = Asked(parts=(Picture(jpeg((200, 10, 10))), Words("a")), weights=(1.0, 1.0), k=1, among=every)
    assert isinstance(asyncio.run(here.search(picture)), Ranked)


@dataclass(slots=True)
class OfShard(Here):
    """A desk over some of the members, as the shard of a larger index."""

    async def directed(self, parts: Sequence[Sought | Picture]) -> Sequence[Floats | None] | Unfit:
        found = await looked_at(self.desk, parts, pictured=self.pictured)
        return found if isinstance(found, Unfit) else await self.desk.directed(found)

    async def facts(self) -> Facts:
        return self.desk.facts()


@pytest.fixture(scope="module")
def shards() -> Iterator[Sharded]:
    ids_N, of_shard_N = everybody().ids_N, np.arange(NUM) % 3
    desks_ = [
        asyncio.run(Desk.ready(functools.partial(part, ids_N, of_shard_N == number), SHAPE))
        for number in range(3)
    ]
    yield Sharded([OfShard(one) for one in desks_])
    for one in desks_:
        one.close()


def part(ids_N: Ids, mine_N: Mask, _threads: int) -> Searcher:
    return searcher(ids_N[mine_N], VECTORS[mine_N])


@given(asked())
def test_shards_answer_as_the_index_would_whole(desk: Desk, shards: Sharded, ready: Ready) -> None:
    whole_asked = replace(ready.asked, parts=ready.parts)
    (whole,) = desk.answers([ready])
    found = asyncio.run(shards.search(whole_asked))
    assert type(found) is type(whole)
    if isinstance(whole, Ranked) and isinstance(found, Ranked):
        assert np.array_equal(found.ids, whole.ids)
        assert np.array_equal(found.scores, whole.scores)


def test_a_picture_is_looked_at_once_and_an_unfit_one_says_so(desk: Desk, shards: Sharded) -> None:
    among = subsets.of(everybody(), np.ones(NUM, np.bool_)).among
    one = Asked(parts=(Picture(jpeg((9, 80, 120))), Like(0)), weights=(1.0, 0.5), k=7, among=among)
    whole, found = asyncio.run(Here(desk).search(one)), asyncio.run(shards.search(one))
    assert isinstance(whole, Ranked)
    assert isinstance(found, Ranked)
    assert np.array_equal(found.ids, whole.ids)
    unfit = asyncio.run(shards.search(replace(one, parts=(Picture(b"no picture"), Like(0)))))
    assert isinstance(unfit, Unfit)
    assert asyncio.run(shards.facts()) == desk.facts()


def test_a_shard_that_does_not_answer_fails_the_search(shards: Sharded) -> None:
    def dies() -> None:
        raise Busy("RayActorError")

    broken = Sharded([*shards.shards[:2], replace(cast("OfShard", shards.shards[2]), before=dies)])
    among = subsets.of(everybody(), np.ones(NUM, np.bool_)).among
    with pytest.raises(Busy):
        asyncio.run(broken.search(Asked(parts=(Words("a"),), weights=(1.0,), k=3, among=among)))
