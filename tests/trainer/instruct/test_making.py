"""What examples name of that which they were made of."""

import numpy as np
import pytest

from pipeline.split import TRAIN
from trainer.instruct import making, scenes
from trainer.instruct.making import Amounts
from trainer.instruct.world import DERIVED, Asset, Example, World
from trainer.tasks import Asked

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
    none = dict.fromkeys(Amounts.model_fields, 0)
    found = making.examples(world, Amounts(**{**none, "questions": 5, "scene_questions": 30}))
    return [one for one in found if isinstance(one.record, Asked)]


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


def test_a_stroke_thinner_than_a_pixel_of_the_scene_still_has_a_box() -> None:
    stroke = np.full((256, 256, 3), 255, np.uint8)
    stroke[20:236, 126:129] = 0
    stroke[20:23, 20:236] = 0
    sprite = scenes.cut(stroke)
    assert sprite is not None
    drawn = scenes.compose([sprite], [scenes.Box(100, 100, 180, 180)], ground=scenes.WHITE, side=32)
    assert drawn.masks[0].any()
    assert drawn.boxes[0].area > 0
