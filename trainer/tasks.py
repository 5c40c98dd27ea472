"""Instruction-tuning tasks: typed records, the templates that make prompts of them, and the way back.

Templates are those of arXiv 2309.02591, table 5, word for word. In every task whose answer is words, these
stand *before* the picture: an answer becomes conditional on it only because the objective cuts it out and
asks for it behind the end. The surprising rule: a record that its own prompt would not give back is refused
when it is made, so every prompt that exists can be read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

from trainer.instruct.scenes import Box

Kind = Literal["canny edge", "segmentation", "hed", "openpose", "depth", "normals", "scribble", "lines"]
FEATURES: Mapping[Kind, str] = {
    "canny edge": "canny edge features",
    "segmentation": "a segmentation map",
    "hed": "hed features",
    "openpose": "openpose features",
    "depth": "depth features",
    "normals": "3D norm features",
    "scribble": "children's scribbles",
    "lines": "straight line features",  # in the paper's figure 15, without a row in its table
}
"""What stands in a prompt for each kind of map."""
BREAK = "<break>"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a record, by name: the uid of an asset, or of what was derived from some."""

    uid: str


ASKED = Picture("asked for")
"""Stands in a record for a picture that is not there yet; no prompt looks at it."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A named thing and where it is."""

    name: str
    box: Box


@dataclass(frozen=True, slots=True)
class Piece:
    """Words of one field, or of the template itself."""

    text: str
    field: str | None = None


Words = tuple[Piece, ...]
Segment = Words | Picture
"""What stands between two ``<break>``."""


class Unwritable(ValueError):
    """A record that its template cannot say: the prompt would be read as another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One example of a task. Text fields are lines without white space at their ends."""

    TEMPLATES: ClassVar[tuple[str, ...]]
    TARGET: ClassVar[str]
    """The field that is asked for; the others are given."""
    wording: int = 0
    """Which of the task's templates."""

    def __post_init__(self) -> None:
        if not 0 <= self.wording < len(self.TEMPLATES):
            raise Unwritable(
                f"{type(self).__name__}.wording is {self.wording}; there are {len(self.TEMPLATES)} templates"
            )
        if found(said(prompt(self))) != self:
            raise Unwritable(
                f"{self} is read from its prompt as something else: a field holds the template's own words, "
                "a line break, or white space at its ends; change the words or leave the record out"
            )

    @classmethod
    def read(cls, segments: Sequence[str | Picture]) -> Self | None:
        """The record whose prompt this is; None where it is none of this task's."""
        # What says most of itself first: what is left of a longer one may look like a shorter one's field.
        for wording in sorted(range(len(cls.TEMPLATES)), key=lambda one: -len(cls.TEMPLATES[one])):
            values = matched(cls.TEMPLATES[wording], segments)
            if values is not None:
                record: Self = object.__new__(cls)  # not checked again: checking reads
                told = {"wording": wording, **values}
                for one in fields(cls):
                    object.__setattr__(record, one.name, told.get(one.name, one.default))
                return record
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned(Record):
    """COCO captions, Flickr30k: a short caption."""

    TEMPLATES = ("Describe the given picture. {caption} <break> {image}", "{caption} <break> {image}")
    TARGET = "caption"
    caption: str
    image: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrated(Record):
    """Image Paragraph, Localized Narratives: a long caption."""

    TEMPLATES = (
        "Describe the given picture in very detail. {caption} <break> {image}",
        "Describe all the objects in the given image in very detail. {caption} <break> {image}",
        "Generate a long caption for the given image. {caption} <break> {image}",
        "Generate a long narration of what is happening in the given image. {caption} <break> {image}",
    )
    TARGET = "caption"
    caption: str
    image: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Record):
    """VQA2, VizWiz, OKVQA: a question about a picture."""

    TEMPLATES = (
        "Question: {question} Answer: {answer}. <break> {image}",
        "Question: {question}\n{answer} <break> {image}",
        "Question: {question} The answer is {answer}. <break> {image}",
    )
    TARGET = "answer"
    question: str
    answer: str
    image: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoned(Record):
    """ScienceQA: a question with context and options, answered at once or by steps."""

    TEMPLATES = (
        "Question: {question}\nContext: {context}\nOptions: {options}\nAnswer: {answer}. <break> {image}",
        (
            "Question: {question}\nContext: {context}\nOptions: {options}\nAnswer: Let's think step-by-step: "
            "{explanation} So the answer is {answer}. <break> {image}"
        ),
    )
    TARGET = "answer"
    question: str
    context: str
    options: str
    answer: str
    image: Picture
    explanation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited(Record):
    """InstructPix2Pix: a picture changed as told."""

    TEMPLATES = (
        "Edit first image following the instruction <break> {before} <break> {instruction} <break> {after}",
    )
    TARGET = "after"
    before: Picture
    instruction: str
    after: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Written(Record):
    """How to write: a picture of a given text."""

    TEMPLATES = ('draw "{text}" <break> {image}',)
    TARGET = "image"
    text: str
    image: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounded(Record):
    """Object detection: a picture with things at given places."""

    TEMPLATES = ("Generate high quality image of {caption} with segmentations {things} <break> {image}",)
    TARGET = "image"
    caption: str
    things: tuple[Placed, ...]
    image: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled(Record):
    """ControlNet: a picture along the lines of a map."""

    TEMPLATES = ("Make high quality image from {kind} <break> {map} <break> {caption} <break> {image}",)
    TARGET = "image"
    kind: Kind
    map: Picture
    caption: str
    image: Picture


TASKS: Mapping[str, type[Record]] = {
    "edit": Edited,
    "control": Controlled,
    "grounded": Grounded,
    "sign": Written,
    "reasoning": Reasoned,
    "question": Asked,
    "long-caption": Narrated,
    "caption": Captioned,
}
"""By name; in the order in which a prompt is read: what says most of itself first."""
NAMES = {kind: name for name, kind in TASKS.items()}


def prompt(record: Record) -> tuple[Segment, ...]:
    """The record in its template's words."""
    return tuple(_segment(part, record) for part in _parts(record.TEMPLATES[record.wording]))


def parse(segments: Sequence[str | Picture]) -> Record:
    """The record that a prompt says; ValueError where it is no task's."""
    record = found(segments)
    if record is None:
        raise ValueError(f"no task has the prompt {segments!r}; the tasks are {', '.join(TASKS)}")
    return record


def found(segments: Sequence[str | Picture]) -> Record | None:
    """The record that a prompt says, if it says one."""
    records = (kind.read(segments) for kind in TASKS.values())
    return next((record for record in records if record is not None), None)


def said(segments: Sequence[Segment]) -> tuple[str | Picture, ...]:
    """Segments as they read, without what says which words are whose."""
    return tuple(
        one if isinstance(one, Picture) else "".join(piece.text for piece in one) for one in segments
    )


def pictures(record: Record) -> tuple[Picture, ...]:
    """All of them, in the order of the prompt."""
    return tuple(one for one in prompt(record) if isinstance(one, Picture))


def _parts(template: str) -> list[str]:
    return template.split(f" {BREAK} ")


FIELD = re.compile(r"\{(\w+)\}")


def _segment(part: str, record: Record) -> Segment:
    whole = FIELD.fullmatch(part)
    if whole and isinstance(value := getattr(record, whole[1]), Picture):
        return value
    pieces = FIELD.split(part)  # the template's words and the names of fields, in turn
    found = [
        Piece(WRITTEN.get(text, str)(getattr(record, text)), text) if number % 2 else Piece(text)
        for number, text in enumerate(pieces)
    ]
    return tuple(piece for piece in found if piece.text)


def matched(template: str, segments: Sequence[str | Picture]) -> dict[str, Any] | None:
    """The values of a template's fields, where the segments have its form."""
    parts = _parts(template)
    if len(parts) != len(segments):
        return None
    values: dict[str, Any] = {}
    for part, segment in zip(parts, segments, strict=True):
        found = _shown(part, segment) if isinstance(segment, Picture) else _told(part, segment)
        if found is None:
            return None
        values |= found
    return values


PICTURES = frozenset({"image", "before", "after", "map"})


def _shown(part: str, picture: Picture) -> dict[str, Any] | None:
    whole = FIELD.fullmatch(part)
    return {whole[1]: picture} if whole and whole[1] in PICTURES else None


def _told(part: str, text: str) -> dict[str, Any] | None:
    found = re.fullmatch(_pattern(part), text)
    if found is None or not PICTURES.isdisjoint(found.groupdict()):
        return None
    values = {name: READ.get(name, _line)(value) for name, value in found.groupdict().items()}
    return None if None in values.values() else values


def _pattern(part: str) -> str:
    pieces = FIELD.split(part)
    return "".join(
        f"(?P<{text}>{'.*?' if text in MAY_BE_EMPTY else '.+?'})" if number % 2 else re.escape(text)
        for number, text in enumerate(pieces)
    )


MAY_BE_EMPTY = frozenset({"context", "explanation"})


def _line(text: str) -> str | None:
    return text if text == text.strip() else None


def _kind(text: str) -> Kind | None:
    return next((kind for kind, words in FEATURES.items() if words == text), None)


PLACED = re.compile(r"(?P<name>.+?) at \((\d+), (\d+)\) -> \((\d+), (\d+)\)(?:, |$)")


def _things(text: str) -> tuple[Placed, ...] | None:
    found, at = [], 0
    while at < len(text):
        one = PLACED.match(text, at)
        if one is None or _line(one["name"]) is None:
            return None
        x0, y0, x1, y1 = map(int, one.groups()[1:])
        if not (x0 < x1 and y0 < y1):
            return None
        found.append(Placed(one["name"], Box(x0, y0, x1, y1)))
        at = one.end()
    return None if text.endswith(", ") else tuple(found)


WRITTEN: Mapping[str, Callable[[Any], str]] = {
    "kind": lambda kind: FEATURES[kind],
    "things": lambda things: ", ".join(f"{one.name} at {one.box.text}" for one in things),
}
"""How a field that is no text is written; the others as they are."""
READ: Mapping[str, Callable[[str], Any]] = {"kind": _kind, "things": _things}
