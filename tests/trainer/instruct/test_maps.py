import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipeline.colors import Pixels
from trainer.instruct import maps
from trainer.instruct.maps import MAPS

SIDE, RADIUS = 128, 40
RED = (200, 30, 40)


def disc() -> Pixels:
    picture = Image.new("RGB", (SIDE * 4, SIDE * 4), "white")
    ends = 4 * (SIDE // 2 - RADIUS), 4 * (SIDE // 2 + RADIUS) - 1
    ImageDraw.Draw(picture).ellipse((ends[0], ends[0], ends[1], ends[1]), fill=RED)
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def scenery() -> Pixels:
    """No plain ground: noise over a ramp, with things."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(40, 200, SIDE)[:, None, None] + rng.normal(0, 6, (SIDE, SIDE, 3))
    picture = Image.fromarray(ramp.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((20, 60, 70, 110), fill=(180, 60, 40))
    draw.polygon([(15, 60), (45, 30), (75, 60)], fill=(90, 40, 30))
    draw.ellipse((90, 10, 115, 35), fill=(250, 230, 80))
    return np.asarray(picture)


def from_centre() -> np.ndarray:
    ys, xs = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    return np.hypot(xs, ys)


def mapped(kind: str, picture: Pixels) -> Pixels:
    found = MAPS[kind](picture)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", sorted(MAPS))
@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (96, 160)])
def test_a_map_has_the_size_of_its_picture_and_is_the_same_again(kind: str, shape: tuple[int, int]) -> None:
    picture = cv2.resize(disc(), shape[::-1], interpolation=cv2.INTER_AREA)
    before = picture.copy()
    first = mapped(kind, picture)
    assert first.shape == (*shape, 3)
    assert first.dtype == np.uint8
    assert first.max() > first.min()
    assert np.array_equal(first, mapped(kind, picture))
    assert np.array_equal(picture, before)


@pytest.mark.parametrize(("kind", "away"), [("canny edge", 2.0), ("scribble", 5.0), ("lines", 3.0)])
def test_strokes_of_a_disc_lie_on_its_outline_and_go_all_round(kind: str, away: float) -> None:
    marked = mapped(kind, disc())[..., 0] == 255
    assert np.abs(from_centre()[marked] - RADIUS).max() <= away
    ys, xs = np.nonzero(marked)
    sectors = np.floor((np.arctan2(ys - SIDE / 2, xs - SIDE / 2) + np.pi) / (2 * np.pi) * 8)
    assert len(np.unique(sectors.clip(0, 7))) == 8


@pytest.mark.parametrize("kind", ["canny edge", "scribble", "lines"])
def test_edges_strokes_and_lines_are_white_on_black_alone(kind: str) -> None:
    assert set(np.unique(mapped(kind, scenery()))) == {0, 255}


def test_soft_edges_are_strongest_on_the_outline_and_fall_off() -> None:
    soft, away = mapped("hed", disc())[..., 0].astype(float), np.abs(from_centre() - RADIUS)
    assert soft[away < 1].mean() > 200
    assert 20 < soft[(away > 3) & (away < 4)].mean() < soft[away < 1].mean()
    assert soft[away > 15].max() < 10


def test_a_scribble_is_thicker_than_an_edge() -> None:
    assert mapped("scribble", disc()).mean() > 1.5 * mapped("canny edge", disc()).mean()


def test_a_picture_of_two_colours_has_two_regions_in_the_first_two_colours_darkest_first() -> None:
    regions = mapped("segmentation", disc())
    colors = {tuple(color) for color in regions.reshape(-1, 3).tolist()}
    assert colors == set(maps.PALETTE[:2])
    assert tuple(regions[SIDE // 2, SIDE // 2].tolist()) == maps.PALETTE[0]
    inside = (regions == maps.PALETTE[0]).all(axis=2)
    assert (inside == (from_centre() <= RADIUS)).mean() > 0.98


def test_one_colour_is_one_region() -> None:
    flat = np.full((64, 64, 3), (10, 90, 200), np.uint8)
    assert np.unique(mapped("segmentation", flat).reshape(-1, 3), axis=0).tolist() == [list(maps.PALETTE[0])]


@pytest.mark.parametrize(("step", "regions"), [(14, 1), (60, 2)])
def test_neighbours_of_like_colour_are_one_region(step: int, regions: int) -> None:
    picture = np.full((64, 64, 3), 100, np.uint8)
    picture[:, 32:] += np.uint8(step)
    assert len(np.unique(mapped("segmentation", picture).reshape(-1, 3), axis=0)) == regions


def test_depth_is_nothing_on_the_ground_and_grows_towards_the_middle() -> None:
    depth = mapped("depth", disc())[..., 0].astype(int)
    assert depth[from_centre() > RADIUS + 2].max() == 0
    assert depth.max() == 255
    assert from_centre()[np.unravel_index(depth.argmax(), depth.shape)] < 4
    profile = depth[SIDE // 2, SIDE // 2 :]
    assert (np.diff(profile[2:]) <= 0).all()


def test_normals_are_unit_vectors_that_lean_outwards_and_face_the_eye_on_the_ground() -> None:
    coded = mapped("normals", disc())
    normal = coded.astype(float) / 127.5 - 1
    assert np.abs(np.linalg.norm(normal, axis=2) - 1).max() < 0.02
    assert (normal[..., 2] >= 0).all()
    assert coded[2, 2].tolist() == [128, 128, 255]
    middle, rim = SIDE // 2, RADIUS - 6
    assert normal[middle, middle + rim, 0] > 0.1 > -0.1 > normal[middle, middle - rim, 0]
    assert normal[middle - rim, middle, 1] > 0.1 > -0.1 > normal[middle + rim, middle, 1]


@pytest.mark.parametrize("kind", ["depth", "normals"])
def test_a_picture_without_a_plain_ground_has_no_silhouette_to_inflate(kind: str) -> None:
    assert MAPS[kind](scenery()) is None


def test_straight_lines_are_found_and_a_picture_of_none_has_none() -> None:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(picture).rectangle((30, 40, 100, 90), fill=(30, 60, 120))
    marked = mapped("lines", np.asarray(picture))[..., 0] == 255
    for edge in (marked[35:95, 27:34], marked[35:95, 97:104]):
        assert edge.any(axis=1).mean() > 0.7
    for edge in (marked[37:44, 25:105], marked[87:94, 25:105]):
        assert edge.any(axis=0).mean() > 0.7
    assert not marked[50:80, 40:90].any()
    assert mapped("lines", np.full((64, 64, 3), 200, np.uint8)).max() == 0


def test_noise_of_a_ramp_is_no_edge() -> None:
    marked = mapped("canny edge", scenery())[..., 0] == 255
    assert marked[110:, 90:].mean() < 0.02
    assert marked[58:113, 18:23].any(axis=1).mean() > 0.8
