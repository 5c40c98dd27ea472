"""What examples name of that which they were made of, and whether it is so."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pipeline.split import TRAIN
from trainer import tasks
from trainer.instruct import edits, listing, making, maps, scenes
from trainer.instruct.build import InstructSection
from trainer.instruct.changing import Paints
from trainer.instruct.making import Amounts
from trainer.instruct.world import DERIVED, Asset, Example, World
from trainer.tasks import Asked, Controlled, Grounded

SIDE = 32
NAMES = ("apple", "kettle", "bicycle", "lantern", "violin", "anchor")
KEPT_BACK = "bicycle"
"""Its licence grants nothing derived."""


def asset(number: int, name: str) -> Asset:
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[6:26, 8:20] = (40 * number, 200 - 30 * number, 90)
    return Asset(
        uid=f"acme:{number}",
        revision=1,
        name=name,
        keywords=(),
        color=None,
        image_type="photo",
        may_derive=name != KEPT_BACK,
        pixels=pixels,
    )


@pytest.fixture(scope="module")
def world() -> World:
    return World([asset(*pair) for pair in enumerate(NAMES)], split=TRAIN, side=SIDE, seed=0)


def asked(world: World) -> list[Example]:
    found = made(world, questions=5, scene_questions=30)
    return [one for one in found if isinstance(one.record, Asked)]


def made(world: World, **each: int) -> list[Example]:
    none = dict.fromkeys(Amounts.model_fields, 0)
    return list(making.examples(world, Amounts(**{**none, **each})))


def test_a_question_hangs_on_every_asset_whose_name_it_says(world: World) -> None:
    uids = {one.name: one.uid for one in world.assets}
    found = asked(world)
    said = [(one, name) for one in found for name in NAMES if name in one.record.question]  # type: ignore[attr-defined]
    assert {name for _, name in said} == set(NAMES) - {KEPT_BACK}
    for one, name in said:
        assert uids[name] in one.sources
        # Whose licence is withdrawn takes along the words, so they are no single asset's.
        assert one.words.startswith(DERIVED) or one.sources == (one.words,)
        assert set(one.derived) == {uid for uid in (one.words, *one.pictures) if uid not in uids.values()}


def test_nothing_is_made_of_what_has_no_caption() -> None:
    bare = "kettle"
    assets = [asset(*pair) for pair in enumerate(NAMES)]
    assets = [replace(one, is_captioned=one.name != bare) for one in assets]
    world = World(assets, split=TRAIN, side=SIDE, seed=0)
    found = list(making.examples(world, Amounts()))
    (uid,) = (one.uid for one in assets if one.name == bare)
    assert found
    assert uid not in {source for one in found for source in one.sources}
    assert not [one for one in found if bare in str(tasks.said(tasks.prompt(one.record)))]
    assert bare not in world.names


def test_a_stroke_thinner_than_a_pixel_of_the_scene_still_has_a_box() -> None:
    stroke = np.full((256, 256, 3), 255, np.uint8)
    stroke[20:236, 126:129] = 0
    stroke[20:23, 20:236] = 0
    sprite = scenes.cut(stroke)
    assert sprite is not None
    drawn = scenes.compose([sprite], [scenes.Box(100, 100, 180, 180)], ground=scenes.WHITE, side=32)
    assert drawn.masks[0].any()
    assert drawn.boxes[0].area > 0


def test_the_color_that_is_asked_for_is_the_one_that_the_picture_has(world: World) -> None:
    uids = {one.name: one for one in world.assets}
    found = made(world, color_questions=40)
    told: Counter[str] = Counter()
    for one in found:
        assert isinstance(one.record, Asked)
        (uid,), (picture,) = one.pictures.keys(), one.pictures.values()
        assert one.record.image.uid == uid
        (name,) = [name for name in (*NAMES, "background") if name in one.record.question]
        if name == "background":
            seen = edits.ground_of(picture)
        else:
            front = scenes.foreground(picture)
            assert front is not None
            seen = edits.color_of(picture, front.mask)
            assert one.sources == (uids[name].uid,)
        assert one.record.answer == seen
        told[name] += 1
    assert set(told) == {*NAMES, "background"} - {KEPT_BACK}
    assert told["background"] == pytest.approx(len(found) / 2, rel=0.3)
    answers = {one.record.answer for one in found if isinstance(one.record, Asked)}
    assert answers == set(edits.COLORS) - {"white"}  # the ground of them all


def test_a_painted_picture_hangs_on_its_asset_and_on_its_licences(world: World) -> None:
    found = {f"question:{number}": one for number, one in enumerate(made(world, color_questions=4))}
    holders = {one.uid: ([f"licence of {one.name}"], "acme") for one in world.assets}
    table = listing.told(found, dict.fromkeys(found, 1), holders, None).to_pylist()
    names = {one.uid: one.name for one in world.assets}
    assert len(table) == 4 * (len(NAMES) - 1)
    for row in table:
        (uid,) = row["sources"]
        assert names[uid] != KEPT_BACK
        assert row["licenses"] == [f"licence of {names[uid]}"]
        assert row["derived"] == [segment["picture"] for segment in row["prompt"] if segment["picture"]]


def test_in_its_own_color_nothing_is_painted(world: World) -> None:
    for asset in world.assets:
        paints = Paints.of(asset)
        assert (paints is None) == (asset.name == KEPT_BACK)
        if paints is not None:
            own = edits.color_of(asset.pixels, paints.mask)
            assert set(paints.colors) == set(edits.COLORS) - {own, "white"}


def test_the_map_of_a_scene_is_that_of_its_picture_and_hangs_on_all_that_stands_in_it(world: World) -> None:
    uids = {one.name: one.uid for one in world.assets}
    found = made(world, scene_controls=20)
    for one in found:
        assert isinstance(one.record, Controlled)
        picture, of_it = (one.pictures[part.uid] for part in (one.record.image, one.record.map))
        expected = maps.MAPS[one.record.kind](picture)
        assert expected is not None
        assert (of_it == expected).all()
        named = {name for name in NAMES if name in one.record.caption}
        assert one.sources == tuple(sorted(uids[name] for name in named))
        assert uids[KEPT_BACK] not in one.sources
        assert set(one.derived) == {one.record.image.uid, one.record.map.uid, one.words}
        assert not set(one.derived) & set(uids.values())
    assert {len(one.sources) for one in found} == {1, 2, 3}
    assert {one.record.kind for one in found if isinstance(one.record, Controlled)} == set(maps.MAPS)


def test_a_scene_to_be_placed_has_two_things_or_three(world: World) -> None:
    found = [one.record for one in made(world, scenes=20)]
    assert {len(one.things) for one in found if isinstance(one, Grounded)} == {2, 3}
    assert all(isinstance(one, Grounded) for one in found)


@pytest.mark.parametrize("amount", sorted({*Amounts.model_fields} - {"captions", "signs"}))
def test_nothing_is_made_of_pictures_of_which_nothing_may_be(amount: str) -> None:
    assets = [replace(asset(number, name), may_derive=False) for number, name in enumerate(NAMES)]
    world = World(assets, split=TRAIN, side=SIDE, seed=0)
    assert made(world, **{amount: 3}) == []
    assert made(World([asset(0, "apple")], split=TRAIN, side=SIDE, seed=0), **{amount: 0}) == []


def test_one_thing_that_is_found_has_a_box_and_of_two_none_has(world: World) -> None:
    found = made(world, boxes=1)
    assert {one.sources for one in found} == {(one.uid,) for one in world.assets if one.may_derive}
    for one in found:
        assert isinstance(one.record, Grounded)
        (thing,) = one.record.things
        assert thing.box == scenes.Box(64, 48, 160, 208)
        assert one.record.image.uid == one.words
        assert not one.derived
    pixels = np.hstack([world.assets[0].pixels, world.assets[1].pixels])
    two = replace(world.assets[0], pixels=np.pad(pixels, ((16, 16), (0, 0), (0, 0)), constant_values=255))
    assert not made(World([two], split=TRAIN, side=SIDE, seed=0), boxes=1)


def test_only_maps_that_are_asked_for_are_made() -> None:
    section = InstructSection(maps=("depth", "canny edge", "depth", "depth"))
    assert section.maps == ("canny edge", "depth", "depth", "depth")
    assets = [asset(*pair) for pair in enumerate(NAMES)]
    world = World(assets, split=TRAIN, side=SIDE, seed=0, maps=section.maps)
    found = made(world, controls=7, scene_controls=9)
    told = Counter(one.record.kind for one in found if isinstance(one.record, Controlled))
    assert set(told) == set(section.maps)
    of_assets = [one for one in found if isinstance(one.record, Controlled) and one.words in one.sources]
    assert len({(one.record.kind, one.words) for one in of_assets}) == len(of_assets)  # type: ignore[attr-defined]
    assert told["depth"] > told["canny edge"]  # of scenes, three lots of four
    with pytest.raises(ValueError, match=r"no maps are made of poses; they are canny edge, depth"):
        InstructSection(maps=("poses",))
