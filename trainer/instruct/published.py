"""Read instruction data in the layouts in which it was published, from local folders.

The surprising rule: a record that is wrong stops the reading, a picture that is not there does not, where a
set is commonly fetched in parts (COCO, VQA, Open Images). None at all is an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.guarded import csv, json
from trainer.instruct.maps import MAPS
from trainer.instruct.outside import Place, Shares, Sought, content, document, listed
from trainer.instruct.scenes import GRID, Box
from trainer.instruct.wording import a, joined

MEMBER = json.Limits()
LINE = json.Limits(max_bytes=4 * 1024 * 1024, max_string=1024 * 1024)
"""Of Localized Narratives: a line has the traces of a mouse."""
LISTED = json.Limits(max_bytes=512 * 1024 * 1024, max_values=32_000_000)
"""Of COCO and VQA. The training answers of VQAv2 are 443,757 records of 46 values: they fit, and take GBs."""
TABLE = csv.Limits(max_bytes=512 * 1024 * 1024, max_rows=6_000_000, max_columns=64, max_cell=256)
"""Of Open Images: the 14.6 million boxes of its training set are to be split."""
DELIVERED_ONLY = ("openpose",)
"""Kinds of maps that we cannot make and that may be delivered."""
MIN_INSIDE = 0.5
"""Share of a box that is left in the centre square at least: what is mostly cut off is hardly seen."""
CLASSES = b"LabelName,DisplayName"
"""Header of the names of classes; files before version 7 have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    before: Path
    instruction: str
    after: Path
    before_caption: str | None = None
    after_caption: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    image: Path
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    image: Path
    question: str
    answer: str
    """The one that most of those asked gave."""
    answers: tuple[str, ...]
    caption: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxed:
    image: Path
    caption: str
    things: tuple[tuple[str, Box], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    kind: str
    map: Path
    caption: str
    image: Path


def instruct_pix2pix(folder: Path) -> Iterator[Edited]:
    """``seeds.json``: [[NAME, [SEED, ...]], ...]; NAME/prompt.json with ``edit`` and, where they are,
    the captions ``input`` and ``output``; NAME/SEED_0.jpg and _1.jpg.

    As timothybrooks/instruct-pix2pix reads it (arXiv 2211.09800).
    """
    seeds = folder / "seeds.json"
    for number, entry in enumerate(listed(document(seeds, LISTED), Place(str(seeds), ""))):
        place = Place(str(seeds), f"entry {number}")
        if not (isinstance(entry, list) and len(entry) == 2):
            place.refuse("shape", f"{str(entry)[:80]} is no [name, [seed, ...]]")
        name, drawn = place.text({"name": entry[0]}, "name"), listed(entry[1], place)
        prompt = place.inside(folder, f"{name}/prompt.json", (".json",))
        told = Place(str(prompt), "")
        record = told.record(document(prompt, MEMBER))
        instruction = told.text(record, "edit")
        captions = [told.text_or_none(record, which) for which in ("input", "output")]
        for seed in drawn:
            if not str(seed).isdecimal():
                place.refuse("shape", f"seed {str(seed)[:80]!r} is no number")
            before, after = (place.inside(folder, f"{name}/{seed}_{i}.jpg") for i in (0, 1))
            yield Edited(
                before=before,
                instruction=instruction,
                after=after,
                before_caption=captions[0],
                after_caption=captions[1],
            )


def coco_captions(annotations: Path, images: Path) -> Iterator[Captioned]:
    """``captions_train2017.json`` and the folder of its pictures (arXiv 1504.00325), a record a picture."""
    file = Place(str(annotations), "")
    told = file.record(document(annotations, LISTED))
    captions = _captions(file, told)
    found = Sought(file, images)
    for place, record in file.each(told, "images"):
        number, name = place.number(record, "id"), place.text(record, "file_name")
        if captions.get(number) and (path := found.path(place, name)) is not None:
            yield Captioned(image=path, captions=tuple(captions[number]))
    found.check()


def vqa_v2(questions: Path, annotations: Path, images: Path, captions: Path | None = None) -> Iterator[Asked]:
    """``v2_OpenEnded_mscoco_*_questions.json``, ``v2_mscoco_*_annotations.json``; COCO's pictures of 2014.

    The answer is the published ``multiple_choice_answer``, the commonest of ten (arXiv 1612.00837).
    ``captions``: COCO's of the same pictures, whose first one of a picture is its caption.
    """
    captioned: Mapping[int, list[str]] = {}
    if captions is not None:
        file = Place(str(captions), "")
        captioned = _captions(file, file.record(document(captions, LISTED)))
    asked, answered = Place(str(questions), ""), Place(str(annotations), "")
    told = asked.record(document(questions, LISTED))
    subset = asked.text(told, "data_subtype")
    texts: dict[int, tuple[int, str]] = {}
    for place, record in asked.each(told, "questions"):
        about = place.number(record, "image_id"), place.text(record, "question")
        texts[place.number(record, "question_id")] = about
    found = Sought(answered, images)
    for place, record in answered.each(answered.record(document(annotations, LISTED)), "annotations"):
        key = place.number(record, "question_id")
        if key not in texts:
            place.refuse("question", f"question_id {key} is not in {questions}; give the files of one split")
        image, question = texts[key]
        answers = [one.text(answer, "answer") for one, answer in place.each(record, "answers")]
        answer = place.text(record, "multiple_choice_answer")
        if (path := found.path(place, f"COCO_{subset}_{image:012d}.jpg")) is not None:
            yield Asked(
                image=path,
                question=question,
                answer=answer,
                answers=tuple(answers),
                caption=next(iter(captioned.get(image, ())), None),
            )
    found.check()


def open_images(boxes: Path, classes: Path, images: Path, narratives: Path | None = None) -> Iterator[Boxed]:
    """``*-annotations-bbox.csv``, ``class-descriptions-boxable.csv``, IMAGE_ID.jpg (arXiv 1811.00982).

    ``narratives``: JSON Lines of Localized Narratives (arXiv 1912.03098), whose first caption of a picture is
    its caption; without, the names are. Boxes around groups are left out: a crowd has no one place.

    Boxes are shares of the whole picture, and training sees its centre square: they are brought into it and
    clipped, those with less than half of their area there are left out, and with them a picture that has no
    other.
    """
    names, captions = _class_names(classes), _narrated(narratives)
    things: dict[str, list[tuple[str, Shares]]] = defaultdict(list)
    for where, row in csv.rows(content(boxes, TABLE.max_bytes), file=str(boxes), limits=TABLE):
        place = Place(str(boxes), where)
        label = place.text(row, "LabelName")
        if label not in names:
            place.refuse(
                "class", f"LabelName {label!r} is not in {classes}; give the classes of that version"
            )
        part, image = place.shares(row), place.text(row, "ImageID")
        if row.get("IsGroupOf") != "1":
            things[image].append((names[label], part))
    file = Place(str(boxes), "")
    found = Sought(file, images)
    for image, those in things.items():
        if (path := found.path(file, f"{image}.jpg")) is None:
            continue
        size = file.size(path)
        seen = [(name, box) for name, part in those if (box := in_square(part, *size)) is not None]
        if seen:
            said = joined(list(dict.fromkeys(a(name) for name, _ in seen)))
            yield Boxed(image=path, caption=captions.get(image, said), things=tuple(seen))
    found.check()


def in_square(part: Shares, width: int, height: int) -> Box | None:
    """A part of a picture in the grid of its centre square, at least one pixel; None where it is mostly
    outside.

    >>> in_square((0.25, 0.0, 0.5, 1.0), 400, 300), in_square((0.0, 0.0, 0.2, 1.0), 400, 300)
    (Box(x0=43, y0=0, x1=128, y1=256), None)
    """
    short = min(width, height)
    x0, x1 = (place * width / short - (width - short) / short / 2 for place in part[::2])
    y0, y1 = (place * height / short - (height - short) / short / 2 for place in part[1::2])
    left, top, right, bottom = max(0.0, x0), max(0.0, y0), min(1.0, x1), min(1.0, y1)
    inside = max(0.0, right - left) * max(0.0, bottom - top)
    if inside < MIN_INSIDE * (x1 - x0) * (y1 - y0):
        return None
    x, y = min(round(left * GRID), GRID - 1), min(round(top * GRID), GRID - 1)
    return Box(x, y, max(round(right * GRID), x + 1), max(round(bottom * GRID), y + 1))


def controlnet(file: Path, kind: str) -> Iterator[Controlled]:
    """JSON Lines of ``source``, ``target`` and ``prompt``, paths beside the file, as in lllyasviel's fill50k.

    ``kind``: what its maps are, a name of :data:`trainer.instruct.maps.MAPS` or ``openpose``.
    """
    if kind not in (*MAPS, *DELIVERED_ONLY):
        raise ValueError(f"no maps are called {kind!r}; they are {', '.join((*MAPS, *DELIVERED_ONLY))}")
    for where, line in json.lines(content(file, LISTED.max_bytes), file=str(file), limits=MEMBER):
        place = Place(str(file), where)
        record = place.record(line)
        made, image = (place.inside(file.parent, place.text(record, name)) for name in ("source", "target"))
        yield Controlled(kind=kind, map=made, caption=place.text(record, "prompt"), image=image)


def _captions(file: Place, told: Mapping[str, Any]) -> dict[int, list[str]]:
    """Of COCO, by picture."""
    captions: dict[int, list[str]] = defaultdict(list)
    for place, record in file.each(told, "annotations"):
        captions[place.number(record, "image_id")].append(place.text(record, "caption"))
    return captions


def _class_names(path: Path) -> dict[str, str]:
    raw = content(path, TABLE.max_bytes)
    headed = raw if raw.startswith(CLASSES) else CLASSES + b"\n" + raw
    rows = csv.rows(headed, file=str(path), limits=TABLE)
    places = ((Place(str(path), where), row) for where, row in rows)
    return {place.text(row, "LabelName"): place.text(row, "DisplayName").lower() for place, row in places}


def _narrated(path: Path | None) -> dict[str, str]:
    captions: dict[str, str] = {}
    if path is not None:
        for where, line in json.lines(content(path, LISTED.max_bytes), file=str(path), limits=LINE):
            place = Place(str(path), where)
            record = place.record(line)
            captions.setdefault(place.text(record, "image_id"), place.text(record, "caption"))
    return captions
