import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pipeline.colors import Pixels
from trainer.instruct import scenes
from trainer.instruct.scenes import Box, Scene, Sprite, Thing

RED, BLUE, GREEN = (220, 30, 40), (40, 70, 220), (30, 150, 60)
boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    *[st.integers(0, 200), st.integers(0, 200), st.integers(1, 56), st.integers(1, 56)],
)


def disc(color: scenes.RGB, side: int = 128, ground: scenes.RGB = scenes.WHITE) -> Pixels:
    """Centred, half as wide as the picture."""
    picture = Image.new("RGB", (side * 4, side * 4), ground)
    ImageDraw.Draw(picture).ellipse((side, side, 3 * side - 1, 3 * side - 1), fill=color)
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def sprite(color: scenes.RGB) -> Sprite:
    found = scenes.cut(disc(color))
    assert found is not None
    return found


def jpeg(picture: Pixels, quality: int) -> Pixels:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG", quality=quality)
    return np.asarray(Image.open(sink))


@pytest.mark.parametrize("ground", [scenes.WHITE, (20, 40, 90)])
@pytest.mark.parametrize("side", [64, 128, 256])
def test_the_foreground_is_the_disc_and_its_box_is_in_the_grid(side: int, ground: scenes.RGB) -> None:
    found = scenes.foreground(jpeg(disc(RED, side, ground), 85))
    assert found is not None
    ys, xs = np.mgrid[:side, :side] + 0.5
    away = np.hypot(xs - side / 2, ys - side / 2) - side / 4
    assert found.mask[away < -1].all()
    assert not found.mask[away > 2.5].any()  # the colour of a JPEG of half resolution runs so far
    assert found.box.iou(Box(64, 64, 192, 192)) > 0.8
    assert np.abs(np.subtract(found.ground, ground)).max() <= 2


def test_a_hole_is_part_of_the_thing() -> None:
    picture = Image.fromarray(disc(RED))
    ImageDraw.Draw(picture).ellipse((56, 56, 72, 72), fill="white")
    found = scenes.foreground(np.asarray(picture))
    assert found is not None
    assert found.mask[64, 64]


def gradient() -> Pixels:
    ramp = np.linspace(0, 255, 128).astype(np.uint8)
    return np.repeat(np.tile(ramp, (128, 1))[..., None], 3, axis=2)


def noise() -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)


def touching() -> Pixels:
    picture = disc(RED).copy()
    picture[:, 60:70] = GREEN
    return picture


@pytest.mark.parametrize("picture", [gradient(), noise(), touching(), np.full((64, 64, 3), 255, np.uint8)])
def test_from_a_ground_that_is_not_plain_or_empty_nothing_is_cut(picture: Pixels) -> None:
    assert scenes.foreground(picture) is None
    assert scenes.cut(picture) is None


@pytest.mark.parametrize("picture", [gradient(), noise(), np.full((64, 64, 3), 255, np.uint8)])
def test_where_there_is_no_ground_of_one_colour_or_nothing_else_nothing_is_detected(picture: Pixels) -> None:
    assert scenes.detect(picture) == []


def test_a_thing_that_touches_the_border_is_not_cut_but_is_detected() -> None:
    picture = np.concatenate([np.full((128, 40, 3), 255, np.uint8), disc(RED)[:, :-40]], axis=1)
    assert scenes.cut(picture) is None
    (box,) = scenes.detect(picture)
    assert box.iou(Box(144, 64, 256, 192)) > 0.85


@pytest.mark.parametrize("seed", range(8))
def test_things_of_a_noisy_small_picture_are_detected(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = scenes.draw_layout(rng, 3)
    sprites = [sprite(RED), sprite(BLUE), sprite(GREEN)]
    drawn = scenes.compose(sprites, frames, ground=(200, 222, 180), side=64)
    noisy = np.clip(drawn.picture + rng.normal(0, 4, drawn.picture.shape), 0, 255).astype(np.uint8)
    found = scenes.detect(jpeg(noisy, 85))
    assert len(found) == 3
    assert all(max(one.iou(box) for one in found) > 0.6 for box in drawn.boxes)


def test_things_are_detected_where_they_were_placed_the_largest_first() -> None:
    frames = (Box(10, 10, 90, 90), Box(120, 100, 248, 228))
    drawn = scenes.compose([sprite(RED), sprite(BLUE)], frames, ground=(240, 230, 200), side=128)
    found = scenes.detect(jpeg(drawn.picture, 85))
    assert len(found) == 2
    assert found[0].iou(drawn.boxes[1]) > 0.85
    assert found[1].iou(drawn.boxes[0]) > 0.85


def test_a_sprite_keeps_its_colour_its_proportions_and_leaves_no_paper_behind() -> None:
    wide = disc(RED).repeat(2, axis=1)[:, 64:192]
    wide[:, :4] = wide[:, -4:] = 255
    found = scenes.cut(wide)
    assert found is not None
    drawn = scenes.compose([found], [Box(60, 60, 188, 188)], ground=(0, 0, 0), side=256)
    assert drawn.boxes[0].width > 1.3 * drawn.boxes[0].height
    assert np.abs(drawn.picture[128, 128].astype(int) - RED).max() <= 3
    # White paper is over 200 in all channels; a red disc on black has no such pixel.
    assert drawn.picture.min(axis=2).max() < 100


@given(st.integers(0, 2**32), st.integers(1, scenes.MAX_THINGS))
def test_frames_lie_in_the_grid_and_never_touch(seed: int, num: int) -> None:
    frames = scenes.draw_layout(np.random.default_rng(seed), num)
    assert len(frames) == num
    for frame in frames:
        assert 0 < frame.x0 < frame.x1 < scenes.GRID
        assert 0 < frame.y0 < frame.y1 < scenes.GRID
        assert 0.3 * scenes.GRID <= frame.width == frame.height <= 0.5 * scenes.GRID
    assert not any(scenes.crowded(one, frames[:i]) for i, one in enumerate(frames))


def test_frames_are_crowded_from_less_than_the_gap_on() -> None:
    frame = Box(0, 0, 80, 80)
    assert not scenes.crowded(frame, [Box(80 + scenes.GAP, 0, 160, 80), Box(0, 80 + scenes.GAP, 80, 170)])
    assert scenes.crowded(frame, [Box(79 + scenes.GAP, 0, 160, 80)])
    assert scenes.crowded(frame, [Box(20, 20, 30, 30)])


@pytest.mark.parametrize("num", [0, 5])
def test_a_layout_of_no_or_of_five_things_is_refused(num: int) -> None:
    with pytest.raises(ValueError, match="1 to 4 things"):
        scenes.draw_layout(np.random.default_rng(0), num)


@given(boxes, boxes)
def test_iou_counts_shared_pixels(one: Box, other: Box) -> None:
    grids = np.zeros((2, scenes.GRID, scenes.GRID), bool)
    for grid, box in zip(grids, (one, other), strict=True):
        grid[box.y0 : box.y1, box.x0 : box.x1] = True
    assert one.iou(other) == pytest.approx((grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum())
    assert one.iou(other) == other.iou(one)


@given(boxes)
def test_a_box_in_a_smaller_picture_covers_the_same_part(box: Box) -> None:
    assert box.scaled(scenes.GRID) == box
    small = box.scaled(64)
    assert abs(small.centre[0] * 4 - box.centre[0]) <= 6
    assert small.width >= 1
    assert small.height >= 1


@pytest.mark.parametrize(
    ("box", "place"),
    [
        (Box(0, 90, 80, 170), "on the left"),
        (Box(176, 90, 256, 170), "on the right"),
        (Box(90, 0, 170, 80), "at the top"),
        (Box(90, 176, 170, 256), "at the bottom"),
        (Box(90, 90, 170, 170), "in the middle"),
    ],
)
def test_a_place_in_words_is_where_the_centre_is(box: Box, place: str) -> None:
    assert box.place == place


def test_a_scene_draws_the_same_at_every_side() -> None:
    scene = Scene(
        things=(Thing("ball", sprite(RED)), Thing("globe", sprite(BLUE))),
        frames=(Box(8, 8, 108, 108), Box(140, 140, 240, 240)),
    )
    large, small = scene.drawn(256), scene.drawn(64)
    assert all(one.iou(other) > 0.85 for one, other in zip(large.boxes, small.boxes, strict=True))
    assert [mask.shape for mask in small.masks] == [(64, 64)] * 2
