"""Questions with their answers, and long captions, from what a catalogue says and what was measured.

The surprising rule: nothing is asked whose answer is not given. Without a colour there is no question of
colours, and what is not in the picture is asked about as often as what is, so that "yes" is worth nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.instruct.scenes import Box
from trainer.instruct.wording import a, joined, pick, sentence

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = {
    "photo": "a photo",
    "illustration": "a drawing",
    "vector": "a drawing",
    "render_3d": "a 3D rendering",
}
"""What an ``image_type`` of a catalogue is in an answer; others are not asked about."""

WHAT = ("What is this?", "What does the picture show?", "What is shown?", "What can be seen here?")
COLOR = ("What color is the {name}?", "What colour is the {name}?", "Which color has the {name}?")
BACKGROUND = (
    "What color is the background?",
    "What colour is the background?",
    "Which color has the background?",
)
HOW_MANY = (
    "How many things are there?",
    "How many objects does the picture show?",
    "How many things do you see?",
)
WHERE = ("What is {place}?", "What can be seen {place}?", "Which thing is {place}?")
WHICH_PLACE = ("Where is the {name}?", "In which part of the picture is the {name}?")
IS_THERE = ("Is there {a_name}?", "Is {a_name} in the picture?", "Does the picture show {a_name}?")
KIND = (
    "Is it a photo, a drawing or a 3D rendering?",
    "Is this a drawing, a photo or a 3D rendering?",
    "What kind of picture is it?",
)
MAX_KEYWORDS = 4
"""In a long caption."""
TOPICS = ("it has to do with", "one may think of", "it goes with")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of one picture."""

    name: str
    keywords: tuple[str, ...] = ()
    color: str | None = None
    """Of the thing, where one colour dominates."""
    image_type: str | None = None
    """The catalogue's."""
    things: tuple[tuple[str, Box], ...] = ()
    """Of a scene: name and place of each. Then ``name`` is not asked about."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.things) or (self.name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    text: str
    answer: str
    absent: str | None = None
    """The name asked about of what is not in the picture."""


def questions(seen: Seen, *, others: Sequence[str], rng: np.random.Generator) -> list[Question]:
    """All that can be asked, each in one wording.

    ``others``: names of which one that is not in the picture is asked about; where none is left, nothing is
    asked about presence at all.
    """
    return [*_of_one(seen, rng), *_of_scene(seen, rng), *_of_presence(seen, others, rng)]


def painted(name: str | None, color: str, rng: np.random.Generator) -> Question:
    """What color a thing was painted in; without a name, the ground."""
    text = pick(rng, BACKGROUND) if name is None else pick(rng, COLOR).format(name=name)
    return Question(text=text, answer=color)


def _of_one(seen: Seen, rng: np.random.Generator) -> Iterator[Question]:
    if not seen.things:
        yield Question(text=pick(rng, WHAT), answer=a(seen.name))
        if seen.color is not None:
            yield Question(text=pick(rng, COLOR).format(name=seen.name), answer=seen.color)
    if (kind := KINDS.get(seen.image_type or "")) is not None:
        yield Question(text=pick(rng, KIND), answer=kind)


def _of_scene(seen: Seen, rng: np.random.Generator) -> Iterator[Question]:
    if not seen.things:
        return
    if len(seen.things) < len(NUMBERS):
        yield Question(text=pick(rng, HOW_MANY), answer=NUMBERS[len(seen.things)])
    places = [box.place for _, box in seen.things]
    for name, box in seen.things:
        if places.count(box.place) == 1:
            yield Question(text=pick(rng, WHERE).format(place=box.place), answer=a(name))
        if seen.names.count(name) == 1:
            yield Question(text=pick(rng, WHICH_PLACE).format(name=name), answer=box.place)


def _of_presence(seen: Seen, others: Sequence[str], rng: np.random.Generator) -> Iterator[Question]:
    """One thing that is there and one that is not."""
    said = {word.casefold() for word in (seen.name, *seen.names, *seen.keywords)}
    absent = [name for name in others if not _alike(name.casefold(), said)]
    if not absent:
        return
    here, away = pick(rng, seen.names), pick(rng, absent)
    yield Question(text=pick(rng, IS_THERE).format(a_name=a(here)), answer="yes")
    yield Question(text=pick(rng, IS_THERE).format(a_name=a(away)), answer="no", absent=away)


def _alike(name: str, said: set[str]) -> bool:
    """Whether they share a word: a "red apple" is there where an "apple" is.

    >>> _alike("red apple", {"apple"}), _alike("pear", {"apple tree"})
    (True, False)
    """
    words = set(name.split())
    return any(words & set(other.split()) for other in said)


def paragraph(
    seen: Seen, *, description: str = "", ground: str | None = None, rng: np.random.Generator
) -> str:
    """A long caption: the description if there is one, what is where, the ground's colour, the keywords.

    >>> apple, car = ("apple", Box(0, 90, 80, 170)), ("car", Box(170, 90, 250, 170))
    >>> seen = Seen(name="apple", things=(apple, car))
    >>> paragraph(seen, ground="white", rng=np.random.default_rng(0))
    'An apple on the left and a car on the right, on a white background.'
    """
    background = f", on {a(ground)} background" if ground else ""
    told = [f"{description.rstrip('.')}."] if description else []
    told.append(sentence(_what(seen) + background))
    if (kind := KINDS.get(seen.image_type or "")) is not None:
        told.append(sentence(f"it is {kind}"))
    words = [word for word in seen.keywords if word.casefold() not in (seen.name.casefold(), seen.color)]
    if words:
        chosen = [words[i] for i in sorted(rng.permutation(len(words))[:MAX_KEYWORDS].tolist())]
        told.append(sentence(f"{pick(rng, TOPICS)} {joined(chosen)}"))
    return " ".join(told)


def _what(seen: Seen) -> str:
    """Each thing with its place; or the one thing, with its colour unless its name says one."""
    if seen.things:
        return joined([f"{a(name)} {box.place}" for name, box in seen.things])
    colored = seen.color is not None and seen.color not in seen.name.casefold().split()
    return a(f"{seen.color} {seen.name}" if colored else seen.name)
