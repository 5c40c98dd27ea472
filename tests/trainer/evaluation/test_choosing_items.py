"""Which items are judged, and which stand beside them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.captions import digest
from trainer.evaluation import following, known, placing
from trainer.evaluation.bench import Item, batches, others, others_alike
from trainer.evaluation.known import Listed
from trainer.instruct.scenes import Box
from trainer.tasks import Captioned, Controlled, Grounded, Picture, Placed


def example(name: str, *sources: str) -> Listed[Captioned]:
    return Listed(name=name, record=Captioned(caption="a cat", image=Picture(name)), sources=sources)


def test_one_item_of_each_subject_comes_before_a_second_of_any() -> None:
    found = [example(f"{subject}{n}", subject) for subject in "abcde" for n in range(4)]
    first = known.chosen(found, 5)
    assert {one.sources for one in first} == {(subject,) for subject in "abcde"}
    both = known.chosen(found, 10)
    assert both[:5] == first
    assert {one.sources for one in both[5:]} == {(subject,) for subject in "abcde"}


def test_items_are_in_the_order_of_their_hashes_whatever_order_they_came_in() -> None:
    found = [example(f"n{n}", f"s{n}") for n in range(9)]
    names = sorted((one.name for one in found), key=lambda name: digest("evaluated", name))
    assert [one.name for one in known.chosen(found, 9)] == names
    assert known.chosen(found[::-1], 4) == known.chosen(found, 4)


def test_what_has_no_sources_is_its_own_subject() -> None:
    assert len(known.chosen([example("sign1"), example("sign2")], 2)) == 2


@pytest.mark.parametrize("num", [2, 3, 10])
def test_chance_is_always_another_item(num: int) -> None:
    found = others(num, np.random.default_rng(num))
    assert sorted(found.tolist()) == list(range(num))
    assert (found != np.arange(num)).all()


@pytest.mark.parametrize("seed", range(5))
def test_another_of_a_kind_is_of_that_kind_or_of_any_where_it_is_alone(seed: int) -> None:
    kinds = [2, 1, 2, 3, 2, 1]
    found = others_alike(kinds, np.random.default_rng(seed))
    assert all(i != other for i, other in enumerate(found))
    assert [kinds[other] for i, other in enumerate(found) if i != 3] == [2, 1, 2, 2, 1]


def test_one_item_has_no_other() -> None:
    with pytest.raises(ValueError, match="training picture"):
        others(1, np.random.default_rng(0))


def test_a_batch_leaves_nothing_out() -> None:
    rows = list(range(130))
    assert [one for batch in batches(rows) for one in batch] == rows


def layout(name: str, *corners: int) -> Listed[Grounded]:
    things = tuple(Placed(f"thing {i}", Box(x, 0, x + 50, 50)) for i, x in enumerate(corners))
    return Listed(
        name=name, record=Grounded(caption="things", things=things, image=Picture(name)), sources=()
    )


def test_the_nearest_layout_has_as_many_things_in_whatever_order() -> None:
    trained = [layout("one", 100), layout("far", 0, 60), layout("near", 200, 101)]
    asked = layout("asked", 100, 190)
    item = Item(name="asked", record=asked.record, sources=(), pictures={})
    assert [one.name for one in placing.nearest_layouts([item], trained)] == ["near"]
    none = layout("three", 0, 60, 120)
    item = Item(name="three", record=none.record, sources=(), pictures={})
    assert [one.name for one in placing.nearest_layouts([item], trained)] == ["one"]


def test_of_many_things_the_nearest_layout_is_found_in_no_time() -> None:
    """Of 12 things there are 479 million orders."""
    corners = [18 * i for i in range(12)]
    near = [corner + 3 for corner in corners[::-1]]
    trained = [layout("few", 100), layout("far", *[0] * 12), layout("near", *near)]
    asked = layout("asked", *corners)
    item = Item(name="asked", record=asked.record, sources=(), pictures={})
    assert [one.name for one in placing.nearest_layouts([item], trained)] == ["near"]


def test_a_map_is_judged_of_an_assets_own_picture_and_of_no_scene() -> None:
    """A copy is looked for among assets' pictures, where a scene has none."""
    own, scene = (
        Controlled(kind="depth", map=Picture("derived:1"), caption="a cat", image=Picture(uid))
        for uid in ("acme:1", "derived:2")
    )
    assert [following.is_of(kind, own) for kind in (None, "depth", "hed")] == [True, True, False]
    assert not any(following.is_of(kind, scene) for kind in (None, "depth"))
