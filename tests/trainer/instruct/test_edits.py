import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pipeline import colors
from pipeline.colors import Pixels
from trainer.instruct import edits, scenes
from trainer.instruct.edits import COLORS, Edit
from trainer.instruct.scenes import Box, Foreground, Scene, Thing

SIDE = 128
WORDS = sorted(COLORS)


def shaded(hue: scenes.RGB, ground: scenes.RGB = scenes.WHITE) -> Pixels:
    """A disc that is lit from above, with a dark rim and a bright spot."""
    ys, xs = np.mgrid[:SIDE, :SIDE] + 0.5
    away = np.hypot(xs - 64, ys - 64)
    light = (1.2 - ys / SIDE * 0.8)[..., None]
    picture = np.full((SIDE, SIDE, 3), ground, float)
    picture[away < 40] = (np.array(hue) * light).clip(0, 255)[away < 40]
    picture[(away >= 37) & (away < 40)] = 25
    picture[np.hypot(xs - 52, ys - 48) < 5] = 250
    return picture.round().astype(np.uint8)


def front(picture: Pixels) -> Foreground:
    found = scenes.foreground(picture)
    assert found is not None
    return found


def thing(name: str, color: scenes.RGB) -> Thing:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(picture).ellipse((24, 24, 103, 103), fill=color)
    sprite = scenes.cut(np.asarray(picture))
    assert sprite is not None
    return Thing(name, sprite)


BALL, GLOBE, LEAF = thing("ball", (214, 40, 48)), thing("globe", (45, 105, 220)), thing("leaf", (50, 160, 70))


def scene(seed: int, num: int = 2) -> Scene:
    frames = scenes.draw_layout(np.random.default_rng(seed), num)
    return Scene(things=(BALL, GLOBE, LEAF)[:num], frames=frames)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_colour_of_the_corpus_is_painted_and_is_read_as_its_own_word() -> None:
    assert set(COLORS) == set(colors.WORDS)
    for word, color in COLORS.items():
        assert edits.color_of(np.full((4, 4, 3), color, np.uint8), np.ones((4, 4), bool)) == word


@pytest.mark.parametrize("to", WORDS)
@pytest.mark.parametrize("hue", [(200, 40, 40), (60, 60, 70), (240, 200, 90)])
def test_a_recoloured_thing_has_the_named_colour_and_all_else_stays(hue: scenes.RGB, to: str) -> None:
    before = shaded(hue)
    mask = front(before).mask
    edit = edits.recolor(before, mask, to, name="ball", rng=rng())
    assert edits.color_of(edit.after, mask) == to
    assert np.array_equal(edit.after[~mask], before[~mask])
    assert np.array_equal(edit.before, before)
    assert edit.recipe == f"recolor {to}"
    assert "ball" in edit.instruction
    assert to in edit.instruction.split()


@pytest.mark.parametrize("to", ["red", "blue", "green", "brown"])
def test_light_and_shade_stay_when_the_colour_changes(to: str) -> None:
    before = shaded((220, 180, 60))
    mask = front(before).mask
    after = edits.recolor(before, mask, to, name="ball", rng=rng()).after
    lights = [colors.oklab(picture[mask])[:, 0] for picture in (before, after)]
    assert np.corrcoef(*lights)[0, 1] > 0.98


@pytest.mark.parametrize("to", WORDS)
def test_a_new_ground_has_the_named_colour_and_leaves_the_thing(to: str) -> None:
    before = shaded((200, 40, 40))
    mask = front(before).mask
    edit = edits.ground(before, mask, to, rng=rng())
    assert edits.ground_of(edit.after) == to
    inside = np.hypot(*(np.mgrid[:SIDE, :SIDE] + 0.5 - 64)) < 36
    assert np.array_equal(edit.after[inside], before[inside])
    assert to in edit.instruction.split()


def test_no_white_rim_stays_on_a_dark_ground() -> None:
    before = shaded((200, 40, 40))
    after = edits.ground(before, front(before).mask, "black", rng=rng()).after
    rim = np.abs(np.hypot(*(np.mgrid[:SIDE, :SIDE] + 0.5 - 64)) - 40) < 4
    assert after[rim].min(axis=1).max() < 60


def test_a_ground_that_is_not_plain_has_no_colour_and_skin_has_none() -> None:
    noise = rng().integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    assert edits.ground_of(noise) is None
    skin = np.full((4, 4, 3), (245, 215, 195), np.uint8)
    assert edits.color_of(skin, np.ones((4, 4), bool)) is None


def test_a_mirrored_picture_mirrored_again_is_itself() -> None:
    before = shaded((200, 40, 40))
    seen = {}
    for seed in range(20):
        edit = edits.mirror(before, rng=rng(seed))
        seen[edit.recipe] = edit.after
        assert ("vertical" in edit.recipe) == any(
            word in edit.instruction for word in ("vertically", "upside down", "top to bottom")
        )
    assert np.array_equal(seen["mirror horizontal"], before[:, ::-1])
    assert np.array_equal(seen["mirror vertical"], before[::-1])


def differs(edit: Edit) -> np.ndarray:
    return np.asarray((edit.before != edit.after).any(axis=2))


def within(frames: list[Box]) -> np.ndarray:
    inside = np.zeros((SIDE, SIDE), bool)
    for frame in frames:
        box = frame.scaled(SIDE)
        inside[box.y0 : box.y1, box.x0 : box.x1] = True
    return inside


@given(st.integers(0, 2**32))
def test_removing_changes_nothing_outside_the_frame_and_leaves_ground_inside(seed: int) -> None:
    one = scene(seed)
    edit = edits.remove(one, 0, side=SIDE, rng=rng(seed))
    assert not (differs(edit) & ~within([one.frames[0]])).any()
    assert (edit.after[within([one.frames[0]])] == 255).all()
    assert len(scenes.detect(edit.before)) == 2
    assert len(scenes.detect(edit.after)) == 1
    assert "ball" in edit.instruction
    assert edit.recipe == "remove ball"


@given(st.integers(0, 2**32))
def test_adding_puts_the_thing_at_the_place_that_is_said(seed: int) -> None:
    edit = edits.add(scene(seed), LEAF, side=SIDE, rng=rng(seed))
    assume(edit is not None)
    assert edit is not None
    assert len(scenes.detect(edit.after)) == 3
    ys, xs = np.nonzero(differs(edit))
    at = Box(int(xs.min()) * 2, int(ys.min()) * 2, int(xs.max() + 1) * 2, int(ys.max() + 1) * 2)
    assert edits.color_of(edit.after, differs(edit)) == "green"
    assert f"a leaf {at.place}" in edit.instruction or near_a_border_of_places(at)


def near_a_border_of_places(box: Box) -> bool:
    """A pixel more or less decides what the place is called."""
    x, y = abs(box.centre[0] - 128), abs(box.centre[1] - 128)
    return abs(x - y) <= 4 or abs(max(x, y) - 32) <= 4


@given(st.integers(0, 2**32))
def test_a_replaced_thing_stands_in_the_same_frame(seed: int) -> None:
    one = scene(seed)
    edit = edits.replace(one, 1, LEAF, side=SIDE, rng=rng(seed))
    assert not (differs(edit) & ~within([one.frames[1]])).any()
    centre = Box(*(value // 2 for value in one.frames[1].centre), 0, 0)
    assert edits.color_of(edit.after[centre.y0 :, centre.x0 :][:1, :1], np.ones((1, 1), bool)) == "green"
    assert "the globe" in edit.instruction
    assert "a leaf" in edit.instruction


@given(st.integers(0, 2**32))
def test_a_moved_thing_is_as_large_at_the_edge_that_is_said(seed: int) -> None:
    one = scene(seed)
    edit = edits.move(one, 0, side=SIDE, rng=rng(seed))
    assume(edit is not None)
    assert edit is not None
    place = edit.recipe.removeprefix("move ball ")
    assert place.split()[-1] in edit.instruction
    assert place not in (one.frames[0].place, "in the middle")
    red = [(picture[..., 0] > 180) & (picture[..., 2] < 90) for picture in (edit.before, edit.after)]
    assert abs(int(red[0].sum()) - int(red[1].sum())) < 0.1 * red[0].sum()
    blue = [(picture[..., 2] > 180) & (picture[..., 0] < 90) for picture in (edit.before, edit.after)]
    assert np.array_equal(*blue)


def test_where_there_is_no_room_nothing_is_moved_or_added() -> None:
    crowded = Scene(things=(BALL, GLOBE), frames=(Box(4, 4, 128, 128), Box(4, 4, 252, 252)))
    assert edits.move(crowded, 0, side=SIDE, rng=rng()) is None
    assert edits.add(crowded, LEAF, side=SIDE, rng=rng()) is None


@given(st.integers(0, 2**32))
def test_a_thing_grows_or_shrinks_as_the_words_say(seed: int) -> None:
    one = scene(seed)
    edit = edits.resize(one, 0, side=SIDE, rng=rng(seed))
    red = [((picture[..., 0] > 180) & (picture[..., 2] < 90)).sum() for picture in (edit.before, edit.after)]
    grows = any(word in edit.instruction for word in ("bigger", "larger", "enlarge"))
    assert edit.recipe == ("grow ball" if grows else "shrink ball")
    assert red[1] > 1.5 * red[0] if grows else red[1] < 0.6 * red[0]


def test_both_sizes_are_drawn_and_a_thing_at_the_border_only_shrinks() -> None:
    middle = Scene(things=(BALL,), frames=(Box(88, 88, 168, 168),))
    assert {edits.resize(middle, 0, side=64, rng=rng(seed)).recipe for seed in range(20)} == {
        "grow ball",
        "shrink ball",
    }
    border = Scene(things=(BALL,), frames=(Box(4, 88, 84, 168),))
    assert {edits.resize(border, 0, side=64, rng=rng(seed)).recipe for seed in range(20)} == {"shrink ball"}


def test_an_edit_is_the_same_again_from_the_same_seed_and_wordings_vary() -> None:
    before = shaded((200, 40, 40))
    mask = front(before).mask
    first, again = (edits.recolor(before, mask, "blue", name="ball", rng=rng(5)) for _ in range(2))
    assert first.instruction == again.instruction
    assert np.array_equal(first.after, again.after)
    words = {edits.recolor(before, mask, "blue", name="ball", rng=rng(s)).instruction for s in range(60)}
    assert len(words) == len(edits.RECOLOR)
