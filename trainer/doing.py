"""What can be asked of a studio, and how it is done: pictures or words, from words, pictures or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.searching.library import Found
from trainer.given import Given
from trainer.prompts import Ids
from trainer.sampler import Request, SamplerSection
from trainer.studio import Drawing, Pixels, Studio

WHITE = 127
"""Above this a mask is white."""


@dataclass(frozen=True, slots=True)
class Draw:
    text: str


@dataclass(frozen=True, slots=True)
class Caption:
    image: Path


@dataclass(frozen=True, slots=True)
class Edit:
    image: Path
    instruction: str


@dataclass(frozen=True, slots=True)
class Infill:
    image: Path
    mask: Path
    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    image: Path
    question: str


@dataclass(frozen=True, slots=True)
class Tell:
    """A task by its name, answered in words."""

    given: Given


@dataclass(frozen=True, slots=True)
class Show:
    """A task by its name, answered with a picture."""

    given: Given


Told = Caption | Ask | Tell
"""Answered in words."""
Shown = Draw | Edit | Infill | Show
"""Answered with pictures."""
Task = Told | Shown


def files(task: Task) -> dict[str, Path]:
    """The pictures that are given, by the option or the field that names them."""
    if isinstance(task, Tell | Show):
        return dict(task.given.pictures)
    paths = {name: getattr(task, name, None) for name in ("image", "mask")}
    return {name: path for name, path in paths.items() if path is not None}


def words_of(task: Shown) -> str:
    """What is told of a picture that is to be made."""
    match task:
        case Draw() | Infill():
            return task.text
        case Edit():
            return task.instruction
        case Show():
            return task.given.words


def looks_for_neighbors(task: Task) -> bool:
    return isinstance(task, Caption) or (isinstance(task, Draw | Infill) and bool(task.text))


def neighbors(
    studio: Studio, task: Task, k: int, without: Sequence[str], section: SamplerSection
) -> Sequence[Found]:
    """The ``k`` that are nearest to what a task that looks for any is given, its words or the picture to
    caption, but for those left out; for a caption as many as the context has room for.
    """
    match task:
        case Caption(image):
            found = [one for one in studio.alike(opened(studio, image), k) if one.uid not in without]
            return studio.fitting(found, section.max_text_tokens)
        case Draw(text) | Infill(text=text) if text:
            return [one for one in studio.neighbors(text, k) if one.uid not in without]
    return []


def pictured(studio: Studio, task: Shown, found: Sequence[Found], drawing: Drawing) -> Pixels:
    """[samples, side, side, 3]"""
    match task:
        case Draw(text):
            (pictures,) = studio.draw(
                [text], [found], drawing.section, seed=drawing.seed, samples=drawing.samples
            )
            return pictures
        case Edit(image, instruction):
            return studio.edit(opened(studio, image), instruction, drawing)
        case Infill(image, mask, text):
            # Cut to a square as the picture is, so that both still lie on each other.
            brushed = opened(studio, mask).mean(axis=2) > WHITE
            return studio.infill(opened(studio, image), brushed, text, found, drawing)
        case Show(given):
            request = Request(prompt=prompt(studio, given), samples=drawing.samples)
            (pictures,) = studio.drawn([request], drawing.section, seed=drawing.seed)
            return pictures


def said(studio: Studio, task: Told, found: Sequence[Found], section: SamplerSection, *, seed: int) -> str:
    match task:
        case Caption(image):
            (words,) = studio.caption([opened(studio, image)], [found], section, seed=seed)
            return words
        case Ask(image, question):
            return studio.ask(opened(studio, image), question, section, seed=seed)
        case Tell(given):
            (words,) = studio.texts([prompt(studio, given)], section, seed=seed)
            return words


def prompt(studio: Studio, given: Given) -> Ids:
    """What asks for the record's target, in the words that instruction tuning has for it."""
    return studio.prompt(given.record, {uid: opened(studio, path) for uid, path in given.pictures.items()})


def opened(studio: Studio, path: Path) -> Pixels:
    return studio.square(path.read_bytes())


def ranked(studio: Studio, words: str, pictures: Pixels) -> tuple[Pixels, list[float]]:
    """The pictures in the order of their scores, the best first, and these."""
    scores = studio.rerank(words, pictures)
    order = np.argsort(-np.asarray(scores), kind="stable")
    return pictures[order], [scores[i] for i in order]
