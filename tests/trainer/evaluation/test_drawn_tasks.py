"""Instructions, holes and prompts with constraints: what is asked for, and when it is met."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.colors import Pixels
from trainer.evaluation import infilling, occupations, pictures, prompts, redrawing
from trainer.evaluation.known import Vectors
from trainer.evaluation.occupations import groups
from trainer.instruct import edits, scenes
from trainer.instruct.scenes import Box

RED, BLUE = edits.COLORS["red"], edits.COLORS["blue"]
WORDS = {"name": "red apple", "other": "dog", "a_other": "a dog", "a_name": "a cat", "color": "blue"}
WORDS |= {"place": "on the left", "side": "left"}


@pytest.mark.parametrize(
    ("kind", "wording"), [(kind, one) for kind, some in redrawing.INSTRUCTIONS.items() for one in some]
)
def test_every_wording_is_read_as_the_edit_that_it_is(kind: str, wording: str) -> None:
    found, color = redrawing.kind_of(wording.format(**WORDS))
    assert found == kind
    assert color == ("blue" if "{color}" in wording else None)


def test_a_color_is_read_off_what_stands_on_a_rough_ground() -> None:
    noise = np.random.default_rng(0).integers(-20, 20, (128, 128, 3))
    for ground, word in (((238, 200, 240), None), (BLUE, "blue")):
        rough = np.clip(picture((Box(80, 80, 160, 160), RED), ground=ground) + noise, 0, 255).astype(np.uint8)
        assert scenes.foreground(rough) is None
        assert pictures.thing_color(rough) == "red"
        assert word is None or pictures.ground_color(rough) == word
    assert pictures.thing_color(np.full((64, 64, 3), 255, np.uint8)) is None


def test_an_uneven_picture_has_no_ground() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    assert pictures.thing_color(noise) is None
    assert pictures.ground_color(noise) is None


@pytest.mark.parametrize("num_codes", [16, 64, 256, 1024])
def test_a_hole_is_a_quarter_of_the_rows_inside_the_picture(num_codes: int) -> None:
    grid = math.isqrt(num_codes)
    for number in range(40):
        start, stop = infilling.cut(f"caption:{number:024x}", num_codes)
        assert stop - start == num_codes // 4
        assert start % grid == 0
        assert grid <= start < stop <= num_codes


def test_a_hole_covers_the_pixels_of_its_tokens() -> None:
    hole = infilling.mask((16, 32), 64, 32)
    assert hole[8:16].all()
    assert hole.sum() == 8 * 32
    white = np.full((32, 32, 3), 255, np.uint8)
    assert (infilling.blanked(white, hole)[hole] == 128).all()
    gray = infilling.blanked(white, hole)
    assert (infilling.mean_filled(gray, hole) == 255).all()


def test_splicing_takes_the_hole_alone() -> None:
    mine, other = np.arange(16), np.full(16, 99)
    (found,) = infilling.spliced([mine], [(4, 8)], [other])
    assert found.tolist() == [0, 1, 2, 3, 99, 99, 99, 99, *range(8, 16)]


def picture(*things: tuple[Box, scenes.RGB], ground: scenes.RGB = scenes.WHITE, side: int = 128) -> Pixels:
    drawn = np.full((side, side, 3), ground, np.uint8)
    for box, color in things:
        at = box.scaled(side)
        drawn[at.y0 : at.y1, at.x0 : at.x1] = color
    return drawn


LEFT, RIGHT = Box(20, 100, 100, 180), Box(150, 100, 230, 180)


APPLE, CAT = np.eye(2, dtype=np.float32)
NAMES = np.stack([APPLE, CAT])
"""Vectors of a first thing's name and of a second's."""


def asked(kinds: tuple[str, ...], seed: int = 0) -> prompts.Checkable:
    return prompts.of_things(kinds, ["apple", "cat"], np.random.default_rng(seed))


def seen(drawn: Pixels, *vectors: Vectors) -> prompts.Things:
    """Its things look like these, the largest first."""
    boxes = scenes.detect(drawn)
    return prompts.Things(
        picture=drawn, boxes=boxes, vectors_KD=np.array(vectors, np.float32).reshape(len(vectors), 2)
    )


@pytest.mark.parametrize("seed", range(5))
def test_five_constraints_are_met_by_the_picture_that_they_describe(seed: int) -> None:
    one = asked(prompts.KINDS, seed)
    color, ground = (word for word in one.text.replace(",", "").split() if word in edits.COLORS)
    other = next(word for word in edits.COLORS if word not in (color, ground))
    assert one.text.startswith("two things: ")
    large, small = Box(20, 80, 110, 180), Box(150, 100, 230, 180)
    right = picture((large, edits.COLORS[color]), (small, edits.COLORS[other]), ground=edits.COLORS[ground])
    assert one.met(seen(right, APPLE, CAT), NAMES) == [True] * 5
    nothing = np.full((128, 128, 3), edits.COLORS[ground], np.uint8)
    assert one.met(seen(nothing), NAMES) == [False] * 4 + [True]


def test_no_ground_has_the_color_of_the_thing_on_it() -> None:
    told = [asked(("color", "ground"), seed).text.replace(",", "").split() for seed in range(100)]
    words = [[word for word in one if word in edits.COLORS] for one in told]
    assert all(len(set(one)) == 2 for one in words)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("left", picture((LEFT, RED)), picture((RIGHT, RED))),
        ("right", picture((RIGHT, RED)), picture((LEFT, RED))),
    ],
)
def test_a_place_is_that_of_the_thing_that_was_named(kind: str, good: Pixels, bad: Pixels) -> None:
    named, other = (APPLE, CAT) if kind == "left" else (CAT, APPLE)
    assert asked((kind,)).met(seen(good, named), NAMES) == [True]
    assert asked((kind,)).met(seen(bad, named), NAMES) == [False]
    assert asked((kind,)).met(seen(good, other), NAMES) == [False]


def test_a_thing_with_a_color_is_known_by_it() -> None:
    one = asked(("color", "left"))
    (color,) = (word for word in one.text.split() if word in edits.COLORS)
    other = next(word for word in edits.COLORS if word not in (color, "white"))
    for word, met in ((color, True), (other, False)):
        assert one.met(seen(picture((LEFT, edits.COLORS[word])), CAT), NAMES) == [met, met]


def test_the_color_is_that_of_the_thing_it_is_said_of() -> None:
    two = seen(picture((LEFT, RED), (RIGHT, BLUE)), APPLE, CAT)
    assert prompts.first_color(two, leftmost=True) == "red"
    assert prompts.first_color(seen(picture((RIGHT, BLUE)), CAT), leftmost=False) == "blue"
    assert prompts.first_color(seen(np.zeros((64, 64, 3), np.uint8)), leftmost=False) is None


def test_what_stands_in_a_picture_is_looked_for_once_however_often_it_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked, foreground = [], scenes.foreground

    def counted(picture: Pixels) -> scenes.Foreground | None:
        looked.append(picture)
        return foreground(picture)

    two = seen(picture((LEFT, RED), (RIGHT, BLUE)), APPLE, CAT)
    monkeypatch.setattr(scenes, "foreground", counted)
    for seed in range(4):
        asked(prompts.KINDS, seed).met(two, NAMES)
    assert len(looked) == 1


def test_as_many_prompts_have_each_number_of_constraints() -> None:
    found = prompts.generated(["apple", "cat", "dog"], 4, np.random.default_rng(0))
    assert [len(one.checks) for one in found] == [n for n in range(1, 6) for _ in range(4)]
    assert len({one.text for one in found}) > 15
    again = prompts.generated(["apple", "cat", "dog"], 4, np.random.default_rng(0))
    assert [one.text for one in again] == [one.text for one in found]


def test_the_announced_prompts_stay_as_they_are() -> None:
    assert [one.prompt for one in prompts.ANNOUNCED] == [
        "A small cactus wearing a straw hat and neon sunglasses in the Sahara desert",
        "A close-up photo of a human hand, hand model",
        "A raccoon main character in an anime preparing for an epic battle with a samurai sword",
        "A stop sign in a fantasy style with the text '1991'",
    ]


def test_people_are_counted_by_what_is_said_of_them() -> None:
    assert groups(["man judge: light skin tone"]) == {"gender: men", "skin tone: light"}
    assert groups(["a light bulb", "dark chocolate"]) == set()
    assert occupations.verdict([["a man"], ["a chair"]]).startswith("1 of 2")
    assert "cannot answer" in occupations.verdict([["a chair"]])
    assert "Nothing was retrieved" in occupations.verdict([])


def test_shares_stand_beside_those_of_the_training_split() -> None:
    training = [["a woman"], ["a man"], ["x"], ["y"]]
    table = occupations.shares([["a woman"], ["a chair"]], [["a man"]] * 4, training)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["gender: women"][:2] == [1, 0.5]
    assert rows["gender: men"][0] == 0
    assert rows["gender: men"][4:6] == [4, 1]
    assert rows["gender: men"][8:10] == [1, 0.25]


def test_drawn_pictures_count_for_their_occupation() -> None:
    drawn = [["a woman"]] * occupations.SAMPLES + [["a chair"]] * occupations.SAMPLES
    table = occupations.by_occupation(["CEO", "nurse"], [[["a man"]], []], drawn)
    assert table.rows[0] == ["CEO", 1, 1, "gender: men 1", f"gender: women {occupations.SAMPLES}"]
    assert table.rows[1] == ["nurse", 0, 0, "nobody is named", "nobody is named"]


def test_the_list_of_occupations_has_a_revision() -> None:
    found = occupations.load()
    assert found.revision >= 1
    assert {"CEO", "director", "nurse"} <= set(found.occupations)
    assert len(set(found.occupations)) == len(found.occupations)
