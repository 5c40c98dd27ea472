"""Prompts with constraints: those that CM3Leon's announcement is remembered by, and generated ones that
pixels can check.

The surprising rule: of the announced prompts the encoder is the judge, and it is a weak one: a constraint
counts as met where the picture is nearer to its words than to every distractor's, so guessing meets some. The
generated ones are checked by what is found in the pixels; the encoder is asked only which of two things one
is, where no color says it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.colors import Pixels
from trainer.evaluation import pictures
from trainer.evaluation.known import Vectors
from trainer.instruct import edits, reading, scenes, signs
from trainer.instruct.reading import Reader
from trainer.instruct.scenes import GRID, Box
from trainer.instruct.wording import a, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """Part of a prompt, in words that an encoder compares with others."""

    wanted: str
    distractors: tuple[str, ...]

    @property
    def chance(self) -> float:
        return 1 / (1 + len(self.distractors))


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    prompt: str
    constraints: tuple[Constraint, ...]
    text: str | None = None
    """To be read off the picture."""


ANNOUNCED = (
    Announced(
        prompt="A small cactus wearing a straw hat and neon sunglasses in the Sahara desert",
        constraints=(
            Constraint(wanted="a cactus", distractors=("a tree", "a person", "a dog")),
            Constraint(
                wanted="a cactus wearing a straw hat", distractors=("a cactus", "a cactus wearing a helmet")
            ),
            Constraint(
                wanted="a cactus wearing neon sunglasses",
                distractors=("a cactus", "a cactus wearing a scarf"),
            ),
            Constraint(
                wanted="in the Sahara desert", distractors=("in the snow", "in a city", "in a forest")
            ),
        ),
    ),
    Announced(
        prompt="A close-up photo of a human hand, hand model",
        constraints=(
            Constraint(wanted="a human hand", distractors=("a human foot", "a human face", "a paw")),
            Constraint(wanted="a photo of a hand", distractors=("a drawing of a hand", "a statue of a hand")),
            Constraint(
                wanted="a close-up of a hand", distractors=("a whole person", "a crowd seen from far away")
            ),
        ),
    ),
    Announced(
        prompt=("A raccoon main character in an anime preparing for an epic battle with a samurai sword"),
        constraints=(
            Constraint(wanted="a raccoon", distractors=("a cat", "a fox", "a person")),
            Constraint(
                wanted="an anime drawing of an animal",
                distractors=("a photo of an animal", "an oil painting of an animal"),
            ),
            Constraint(
                wanted="an animal with a samurai sword",
                distractors=("an animal with a guitar", "an animal", "an animal with an umbrella"),
            ),
            Constraint(wanted="preparing for a battle", distractors=("sleeping", "eating", "dancing")),
        ),
    ),
    Announced(
        prompt="A stop sign in a fantasy style with the text '1991'",
        constraints=(
            Constraint(wanted="a stop sign", distractors=("a traffic light", "a shop sign", "a tree")),
            Constraint(
                wanted="a sign in a fantasy style",
                distractors=("a photo of a plain sign", "a technical drawing"),
            ),
        ),
        text="1991",
    ),
)
"""Those that the announcement of CM3Leon (July 2023) is remembered by, shortened: they were not compared with
its words, and other results for "the announced prompts" may have been drawn from longer ones."""


@dataclass(frozen=True, kw_only=True)
class Things:
    """What stands in a picture: several checks of several prompts ask it."""

    picture: Pixels
    boxes: Sequence[Box]
    """The largest first."""
    vectors_KD: Vectors
    """By the corpus's encoder, of what is in each of the largest."""

    @property
    def largest(self) -> Sequence[Box]:
        """Those that a prompt may be about."""
        return self.boxes[:MOST_THINGS]

    @cached_property
    def flat(self) -> Pixels:
        """The picture with its ground plain again."""
        return pictures.flattened(self.picture)

    @cached_property
    def front(self) -> scenes.Mask | None:
        """[side, side]: what stands on that ground; None where it is none."""
        found = scenes.foreground(self.flat)
        return None if found is None else found.mask

    @cached_property
    def ground(self) -> str | None:
        """The color word of that ground."""
        return edits.ground_of(self.flat)

    def color_in(self, box: Box) -> str | None:
        """The color word of what stands in a box."""
        if self.front is None:
            return None
        return edits.color_of(self.flat, self.front & inside(box, self.picture.shape[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A constraint that pixels can answer; which of two things one is, the encoder says."""

    kind: str
    holds: Callable[[Things, Vectors], bool]
    """Of a picture, and of the vectors [2, D] of the prompt's names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkable:
    text: str
    checks: tuple[Check, ...]
    names: tuple[str, ...] = ()
    """Of a thing and of another, beside it or not; none of a sign."""

    def met(self, things: Things, names_2D: Vectors) -> list[bool]:
        return [check.holds(things, names_2D) for check in self.checks]


MOST_THINGS = 2
KINDS = ("count", "color", "left", "right", "ground")
MOST_CONSTRAINTS = len(KINDS)
SIGN_EVERY = 5
"""Of prompts with one or two constraints, every fifth asks for text on a sign, and for a ground."""


def generated(
    names: Sequence[str], num: int, rng: np.random.Generator, reader: Reader | None = None
) -> list[Checkable]:
    """``num`` prompts with one constraint, as many with two, … with five; no signs without a reader."""
    found = []
    for size in range(1, MOST_CONSTRAINTS + 1):
        for number in range(num):
            if reader is not None and size <= 2 and number % SIGN_EVERY == 0:
                found.append(of_sign(size, rng, reader))
            else:
                kinds = [KINDS[i] for i in sorted(rng.permutation(len(KINDS))[:size])]
                found.append(of_things(kinds, names, rng))
    return found


def of_things(kinds: Sequence[str], names: Sequence[str], rng: np.random.Generator) -> Checkable:
    """One thing, or one beside another, with what the constraints say of them."""
    first, second = (names[i] for i in rng.permutation(len(names))[:2])
    # On a ground of its own color a thing is not seen.
    color, ground = (tuple(edits.COLORS)[i] for i in rng.permutation(len(edits.COLORS))[:2])
    both = "right" in kinds or ("count" in kinds and rng.random() < 0.5)
    told = a(f"{color} {first}" if "color" in kinds else first)
    told += " on the left" if "left" in kinds else ""
    if both:
        told += f" and {a(second)}" + (" on the right" if "right" in kinds else "")
    counted = {True: "two things: ", False: "one thing: "}[both] if "count" in kinds else ""
    behind = f", on a {ground} background" if "ground" in kinds else ""
    word = color if "color" in kinds else None
    checks: Mapping[str, Callable[[Things, Vectors], bool]] = {
        "count": lambda things, _: len(things.boxes) == 1 + both,
        "color": lambda things, _: first_color(things, leftmost=both) == color,
        "left": lambda things, names_2D: any(
            box.centre[0] < GRID // 2 for box in first_things(things, names_2D, word)
        ),
        "right": lambda things, names_2D: any(
            box.centre[0] >= GRID // 2 for box in first_things(things, names_2D[::-1])
        ),
        "ground": lambda things, _: things.ground == ground,
    }
    return Checkable(
        text=f"{counted}{told}{behind}",
        checks=tuple(Check(kind=kind, holds=checks[kind]) for kind in kinds),
        names=(first, second),
    )


def first_things(things: Things, names_2D: Vectors, color: str | None = None) -> list[Box]:
    """Those of the largest that may be the first of two names: of its color word where it has one; else those
    that the encoder finds nearer to its name than to the other's.
    """
    if color is not None:
        return [box for box in things.largest if things.color_in(box) == color]
    scores_K2 = things.vectors_KD @ names_2D.T
    return [box for box, (one, two) in zip(things.largest, scores_K2.tolist(), strict=True) if one > two]


def first_color(things: Things, *, leftmost: bool) -> str | None:
    """The color word of the largest thing, or of the leftmost of the two largest."""
    if not things.boxes:
        return None
    box = min(things.largest, key=lambda one: one.centre[0]) if leftmost else things.boxes[0]
    return things.color_in(box)


def inside(box: Box, side: int) -> scenes.Mask:
    """[side, side]"""
    at = box.scaled(side)
    found = np.zeros((side, side), np.bool_)
    found[at.y0 : at.y1, at.x0 : at.x1] = True
    return found


def of_sign(size: int, rng: np.random.Generator, reader: Reader) -> Checkable:
    (text,) = signs.words(rng, 1)
    ground = pick(rng, tuple(edits.COLORS))
    checks = (
        Check(kind="sign", holds=lambda things, _: reading.same(reader.read(things.picture), text)),
        Check(kind="ground", holds=lambda things, _: things.ground == ground),
    )
    behind = f", on a {ground} background" if size > 1 else ""
    return Checkable(text=f'draw "{text}"{behind}', checks=checks[:size])
