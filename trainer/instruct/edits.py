"""Edits of a picture by colour, ground and object, each with its instruction in words.

The surprising rule: nothing is painted over. An edit of objects draws the same scene twice, once with the
change, so that all else is equal pixel for pixel; an edit of colours touches the mask alone, or all but it.

H, W height and width of a picture, P pixels of a thing, C red, green, blue or L, a, b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipeline import colors
from pipeline.colors import Floats, Pixels
from trainer.instruct import scenes, wording
from trainer.instruct.scenes import GRID, MARGIN, RGB, Box, Mask, Scene, Thing

COLORS: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (214, 40, 48),
        "orange": (245, 140, 30),
        "yellow": (250, 210, 50),
        "green": (50, 160, 70),
        "blue": (45, 105, 220),
        "purple": (130, 60, 190),
        "pink": (245, 120, 175),
        "brown": (130, 80, 45),
        "black": (35, 35, 38),
        "grey": (140, 140, 142),
        "white": (238, 238, 240),
    }
)
"""What each word of :data:`pipeline.colors.WORDS` is painted as; each is read back as its own word. White is
darker than paper, on which it would not be seen."""
CONTRAST = 0.7
"""Share of a thing's light and shade that stays: all of it drives the bright parts of a yellow face, made
blue, to white."""
GROWN, SHRUNK = 1.45, 0.6
"""By which the side of a frame changes."""
TRIES = 100

RECOLOR = (
    "make the {name} {color}",
    "change the color of the {name} to {color}",
    "change the colour of the {name} to {color}",
    "turn the {name} {color}",
    "paint the {name} {color}",
    "color the {name} {color}",
)
GROUND = (
    "change the background to {color}",
    "make the background {color}",
    "change the color of the background to {color}",
    "put it on a {color} background",
    "turn the background {color}",
)
REMOVE = ("remove the {name}", "take the {name} away", "delete the {name}", "erase the {name}")
ADD = ("add {a_name} {place}", "put {a_name} {place}", "draw {a_name} {place}")
REPLACE = (
    "replace the {name} with {a_other}",
    "change the {name} to {a_other}",
    "swap the {name} for {a_other}",
    "turn the {name} into {a_other}",
)
MOVE = ("move the {name} to the {side}", "put the {name} {place}", "shift the {name} to the {side}")
BIGGER = ("make the {name} bigger", "enlarge the {name}", "make the {name} larger")
SMALLER = ("make the {name} smaller", "shrink the {name}", "reduce the size of the {name}")
MIRROR = {
    "horizontal": ("flip the picture horizontally", "mirror the picture", "flip it left to right"),
    "vertical": ("flip the picture vertically", "turn the picture upside down", "flip it top to bottom"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    instruction: str
    before: Pixels
    after: Pixels
    """As large as before."""
    recipe: str
    """What was done, a word, and to what: ``recolor red``, ``ground blue``, ``remove apple``."""


def color_of(picture: Pixels, mask: Mask) -> str | None:
    """The colour word that most of the masked pixels bear; none where most have no name, as skin has.

    Black, grey and white outlines do not outvote a colour. More lenient than
    :func:`pipeline.colors.dominant`, which says nothing where two colours compete.
    """
    names_P = colors.named(colors.oklab(picture[mask]))
    counts = np.bincount(names_P, minlength=colors.NAMELESS + 1)
    num_colored = int(counts[: len(colors.COLORS)].sum())
    if num_colored >= colors.MIN_SHARE * len(names_P):
        return colors.WORDS[int(counts[: len(colors.COLORS)].argmax())]
    word = int(counts.argmax())
    return None if word == colors.NAMELESS else colors.WORDS[word]


def ground_of(picture: Pixels) -> str | None:
    """The colour word of a plain ground."""
    ground = scenes.plain_ground(picture)
    if ground is None:
        return None
    one = np.array([[ground]], np.uint8)
    return color_of(one, np.ones((1, 1), np.bool_))


def recolor(picture: Pixels, mask: Mask, color: str, *, name: str, rng: np.random.Generator) -> Edit:
    """Hue and mean lightness of the colour; light and shade stay. ``color`` is one of :data:`COLORS`."""
    after = picture.copy()
    # Without a soft edge: the outermost pixels are mixed with the paper, so light, and are painted lightly.
    after[mask] = _shaded(picture[mask], COLORS[color])
    instruction = wording.pick(rng, RECOLOR).format(name=name, color=color)
    return Edit(instruction=instruction, before=picture, after=after, recipe=f"recolor {color}")


def ground(picture: Pixels, mask: Mask, color: str, *, rng: np.random.Generator) -> Edit:
    """The thing as it is, all else in the colour."""
    alpha = scenes.soft(mask)[..., None]
    after = np.rint(alpha * picture + (1 - alpha) * np.array(COLORS[color])).astype(np.uint8)
    instruction = wording.pick(rng, GROUND).format(color=color)
    return Edit(instruction=instruction, before=picture, after=after, recipe=f"ground {color}")


def mirror(picture: Pixels, *, rng: np.random.Generator) -> Edit:
    """Left to right, or top to bottom."""
    way = wording.pick(rng, tuple(MIRROR))
    after = picture[:, ::-1] if way == "horizontal" else picture[::-1]
    instruction = wording.pick(rng, MIRROR[way])
    return Edit(instruction=instruction, before=picture, after=after.copy(), recipe=f"mirror {way}")


def remove(scene: Scene, which: int, *, side: int, rng: np.random.Generator) -> Edit:
    name = scene.things[which].name
    instruction = wording.pick(rng, REMOVE).format(name=name)
    return _drawn(scene, scene.without(which), side, instruction, f"remove {name}")


def add(scene: Scene, thing: Thing, *, side: int, rng: np.random.Generator) -> Edit | None:
    """Where nothing stands; none where no free place was met in :data:`TRIES` draws."""
    frame = _free_frame(rng, (scenes.LEAST, scenes.MOST), scene.frames)
    if frame is None:
        return None
    after = scene.joined_by(thing, frame)
    instruction = wording.pick(rng, ADD).format(a_name=wording.a(thing.name), place=frame.place)
    return _drawn(scene, after, side, instruction, f"add {thing.name}")


def replace(scene: Scene, which: int, other: Thing, *, side: int, rng: np.random.Generator) -> Edit:
    """Another thing in the frame of that one."""
    after = scene.exchanged(which, thing=other)
    name, a_other = scene.things[which].name, wording.a(other.name)
    instruction = wording.pick(rng, REPLACE).format(name=name, a_other=a_other)
    return _drawn(scene, after, side, instruction, f"replace {name} by {other.name}")


def move(scene: Scene, which: int, *, side: int, rng: np.random.Generator) -> Edit | None:
    """To another edge of the picture, where nothing stands; none where no free place was met."""
    frame, name = scene.frames[which], scene.things[which].name
    others, places = scene.without(which).frames, (frame.place, "in the middle")
    moved = _free_frame(rng, (frame.width, frame.width), others, unlike=places)
    if moved is None:
        return None
    words = {"name": name, "place": moved.place, "side": moved.place.split()[-1]}
    after = scene.exchanged(which, frame=moved)
    instruction = wording.pick(rng, MOVE).format(**words)
    return _drawn(scene, after, side, instruction, f"move {name} {moved.place}")


def resize(scene: Scene, which: int, *, side: int, rng: np.random.Generator) -> Edit:
    """Bigger or smaller about its centre, each as likely; smaller where there is no room to grow."""
    grown, name = _about_centre(scene.frames[which], GROWN), scene.things[which].name
    inside = min(grown.x0, grown.y0, GRID - grown.x1, GRID - grown.y1) >= MARGIN
    free = inside and not scenes.crowded(grown, scene.without(which).frames)
    if free and rng.random() < 0.5:
        frame, wordings, recipe = grown, BIGGER, f"grow {name}"
    else:
        frame, wordings, recipe = _about_centre(scene.frames[which], SHRUNK), SMALLER, f"shrink {name}"
    after = scene.exchanged(which, frame=frame)
    return _drawn(scene, after, side, wording.pick(rng, wordings).format(name=name), recipe)


def _drawn(before: Scene, after: Scene, side: int, instruction: str, recipe: str) -> Edit:
    pictures = before.drawn(side).picture, after.drawn(side).picture
    return Edit(instruction=instruction, before=pictures[0], after=pictures[1], recipe=recipe)


def _free_frame(
    rng: np.random.Generator, sizes: tuple[int, int], taken: Sequence[Box], unlike: Sequence[str] = ()
) -> Box | None:
    """A square with a side between the two sizes, in none of those places, clear of what is taken."""
    for _ in range(TRIES):
        size = int(rng.integers(*sizes, endpoint=True))
        x, y = rng.integers(MARGIN, GRID - MARGIN - size, size=2, endpoint=True).tolist()
        frame = Box(x, y, x + size, y + size)
        if frame.place not in unlike and not scenes.crowded(frame, taken):
            return frame
    return None


def _about_centre(frame: Box, factor: float) -> Box:
    (x, y), half = frame.centre, (frame.width * factor / 2, frame.height * factor / 2)
    return Box(round(x - half[0]), round(y - half[1]), round(x + half[0]), round(y + half[1]))


def _shaded(pixels_PC: Pixels, color: RGB) -> Pixels:
    """In OKLab: the colour's hue, its lightness plus what each pixel has over the mean, and less chroma
    towards black and white, where no screen shows more.
    """
    target_C = colors.oklab(np.array([color], np.uint8))[0]
    light_P = colors.oklab(pixels_PC)[:, 0]
    light_P = np.clip(target_C[0] + CONTRAST * (light_P - light_P.mean()), 0.0, 1.0)
    chroma_P = np.minimum(light_P / target_C[0], (1 - light_P) / (1 - target_C[0]))
    return _srgb(np.stack([light_P, target_C[1] * chroma_P, target_C[2] * chroma_P], axis=1))


def _srgb(lab_PC: Floats) -> Pixels:
    """The inverse of :func:`pipeline.colors.oklab`; what a screen cannot show is clipped."""
    cones_PC = (lab_PC @ np.linalg.inv(colors.TO_LAB).T) ** 3
    linear_PC = np.clip(cones_PC @ np.linalg.inv(colors.TO_CONES).T, 0.0, 1.0)
    encoded_PC = np.where(linear_PC <= 0.0031308, linear_PC * 12.92, 1.055 * linear_PC ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded_PC * 255), np.uint8)
