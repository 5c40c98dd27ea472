"""``pardalis instruct import``: a published set of instruction data as a folder that can be sealed.

The surprising rule: a record rides with its picture. It is written into the ``extra`` of the asset record of
the picture that it asks for or about, so it is admitted, split, revoked and credited with it; and one whose
pictures do not all end up together is left out, counted. What several people answered to a question rides
beside its record: training learns one answer, and all of them are what an evaluation compares with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from infra import checkpoints
from infra.guarded import json as guarded
from infra.options import answer
from infra.telemetry import Log
from pipeline.asset import Asset
from trainer import tasks
from trainer.instruct import published
from trainer.instruct.world import line, written
from trainer.tasks import Asked, Captioned, Controlled, Edited, Grounded, Picture, Placed, Record

Form = Literal["instruct-pix2pix", "coco-captions", "vqa-v2", "open-images", "controlnet"]
EXTRA = "instruct."
"""Begins the names of entries of an asset's ``extra`` that hold a record each."""
ANSWERS = "answers."
"""Begins the names of entries that hold all answers to the question of the record of the same number."""
UNCAPTIONED = "uncaptioned"
"""Names the entry of a picture whose description is no caption: nothing is made of it, and it teaches what
rides with it alone."""
MOST_CHARACTERS = 4096
"""Of an entry: the contract's limit."""
MOST_ENTRIES = 60
"""Of a picture: the contract has room for 64."""
LIMITS = guarded.Limits(max_bytes=MOST_CHARACTERS * 4, max_depth=4)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Files of the set, as they were published."""

    folder: Path | None = None
    """instruct-pix2pix: the folder with seeds.json."""
    annotations: Path | None = None
    """coco-captions, vqa-v2: JSON of captions or of answers. controlnet: JSON Lines."""
    questions: Path | None = None
    """vqa-v2: JSON of questions."""
    boxes: Path | None = None
    """open-images: CSV of boxes."""
    classes: Path | None = None
    """open-images: CSV of the names of classes."""
    narratives: Path | None = None
    """open-images: JSON Lines of Localized Narratives, for captions."""
    captions: Path | None = None
    """vqa-v2: JSON of COCO's captions of the same pictures; without, they have none."""
    images: Path | None = None
    """coco-captions, vqa-v2, open-images: folder of the pictures."""
    kind: str = "canny edge"
    """controlnet: what its maps are."""

    def need(self, name: str, form: Form) -> Path:
        found: Path | None = getattr(self, name)
        if found is None:
            raise ValueError(f"{form} needs --{name}; `pardalis instruct import --help` says what it is")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture of the set, with the records that ride with it."""

    asset_id: str
    image: Path
    description: str
    is_captioned: bool = True
    """Whether the description says what is seen; what else it may be still is the text that packs have."""
    records: Sequence[Record] = field(default_factory=tuple)
    answers: Mapping[Record, Sequence[str]] = field(default_factory=dict)
    """To those of the records that are questions, all that people gave."""

    def entries(self) -> dict[str, str]:
        """As the asset's ``extra`` has them; a record that is too long, or has no room, is left out."""
        found: dict[str, str] = {} if self.is_captioned else {UNCAPTIONED: "yes"}
        for number, record in enumerate(self.records):
            mine = {f"{EXTRA}{number}": encoded(record)}
            if record in self.answers:
                mine[f"{ANSWERS}{number}"] = json_text(self.answers[record])
            if all(len(one) <= MOST_CHARACTERS for one in mine.values()):
                found |= mine if len(found) + len(mine) <= MOST_ENTRIES else {}
        return found


def import_(
    form: Form,
    *,
    out: Path,
    files: Published | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Lay a published set out as a folder of pictures and records; licences are added, and it is sealed.

    Example: pardalis instruct import coco-captions --annotations captions.json --images val2017 --out coco

    Parameters
    ----------
    form
        How the set was published.
    out
        Folder to make. Put licenses.jsonl into it and run `pardalis contract seal`.
    json
        Print what was written as JSON.
    """
    if out.exists():
        raise ValueError(f"--out is {out}, which exists; name a folder that does not")
    counts = write(items(form, files or Published()), out)
    told = (
        f"{out}: {counts['pictures']} pictures with {counts['records']} records, {counts['unwritable']} left "
        f"out that no template can say; {counts['uncaptioned']} pictures have no caption\n"
        f"put licenses.jsonl into {out}, then\n  pardalis contract seal {out} "
        f"--provider NAME --every-asset FILE\n  pardalis ingest {out}"
    )
    answer({"out": str(out), **counts}, told, json=json)


def write(found: Iterator[Item], out: Path) -> dict[str, int]:
    """The folder appears whole."""
    counts = {"pictures": 0, "records": 0, "unwritable": 0, "uncaptioned": 0}
    with checkpoints.whole(out) as aside, Log().bar("import", total=0, unit="pictures") as bar:
        for item in found:
            entries = item.entries()
            num_kept = sum(name.startswith(EXTRA) for name in entries)
            sidecar = {"description": item.description, "extra": entries}
            target = aside / f"{item.asset_id}{item.image.suffix.lower()}"
            shutil.copyfile(item.image, target)
            target.with_suffix(".json").write_text(json_text(sidecar))
            counts["pictures"] += 1
            counts["records"] += num_kept
            counts["unwritable"] += len(item.records) - num_kept
            counts["uncaptioned"] += not item.is_captioned
            bar.advance(1, f"{counts['records']} records")
    return counts


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def encoded(record: Record) -> str:
    """A record as an entry: its prompt, in which pictures are asset ids of the same provider."""
    return json_text(segments(record))


def segments(record: Record) -> list[dict[str, str]]:
    """Its prompt, as entries and tables hold it."""
    said = tasks.said(tasks.prompt(record))
    return [{"picture": one.uid} if isinstance(one, Picture) else {"text": one} for one in said]


def delivered(asset: Asset) -> Iterator[Record]:
    """The records that ride with an asset; ValueError where one is none."""
    for name, entry in sorted(asset.extra.items()):
        if name.startswith(EXTRA):
            where = f"{asset.uid}: extra.{name}"
            yield _record(entry, asset, where)


def answered(asset: Asset) -> Iterator[tuple[Record, tuple[str, ...]]]:
    """Those of them that all answers to ride beside, and these; ValueError where one is none."""
    for name, entry in sorted(asset.extra.items()):
        record = asset.extra.get(f"{EXTRA}{name.removeprefix(ANSWERS)}")
        if name.startswith(ANSWERS) and record is not None:
            where = f"{asset.uid}: extra.{name}"
            answers = tuple(one for one in _list(entry, where) if isinstance(one, str))
            if not answers:
                raise ValueError(f"{where} holds no answers; write them as `pardalis instruct import` does")
            yield _record(record, asset, where), answers


def _record(entry: str, asset: Asset, where: str) -> Record:
    return tasks.parse([_segment(one, asset.provider, where) for one in _list(entry, where)])


def _list(entry: str, where: str) -> list[Any]:
    match guarded.loads(entry.encode(), file=where, limits=LIMITS):
        case list(found):
            return found
    raise ValueError(f"{where} is no list; write it as `pardalis instruct import` does")


def _segment(one: Any, provider: str, where: str) -> str | Picture:
    match one:
        case {"text": str(text)}:
            return text
        case {"picture": str(asset_id)}:
            return Picture(f"{provider}:{asset_id}")
    raise ValueError(f"{where} holds {str(one)[:80]!r}; it is {{'text': ...}} or {{'picture': ASSET_ID}}")


def items(form: Form, files: Published) -> Iterator[Item]:
    """The pictures of a set, each once where it is published once."""
    return READERS[form](files)


def of_edits(files: Published) -> Iterator[Item]:
    for number, one in enumerate(published.instruct_pix2pix(files.need("folder", "instruct-pix2pix"))):
        before, after = (f"edit-{number:07d}-{which}" for which in ("0", "1"))
        text = line(one.instruction)
        record = written(Edited, before=Picture(before), instruction=text, after=Picture(after))
        yield _told(before, one.before, one.before_caption, f"before: {text}")
        yield _told(after, one.after, one.after_caption, f"after: {text}", records=tuple(record))


def _told(
    asset_id: str, image: Path, caption: str | None, otherwise: str, *, records: Sequence[Record] = ()
) -> Item:
    """With its caption; where it has none, with other words that are marked as none."""
    description = otherwise if caption is None else line(caption)
    return Item(
        asset_id=asset_id,
        image=image,
        description=description,
        is_captioned=caption is not None,
        records=records,
    )


def of_captions(files: Published) -> Iterator[Item]:
    form: Form = "coco-captions"
    for one in published.coco_captions(files.need("annotations", form), files.need("images", form)):
        captions = [line(text) for text in one.captions]
        yield Item(
            asset_id=one.image.stem,
            image=one.image,
            description=captions[0],
            records=tuple(
                record
                for number, caption in enumerate(captions)
                for record in written(
                    Captioned, caption=caption, image=Picture(one.image.stem), wording=number % 2
                )
            ),
        )


def of_questions(files: Published) -> Iterator[Item]:
    """Questions of a picture stand together, in the order in which it is first asked about."""
    form: Form = "vqa-v2"
    of: dict[Path, list[published.Asked]] = {}
    questions, annotations, images = (
        files.need(name, form) for name in ("questions", "annotations", "images")
    )
    for one in published.vqa_v2(questions, annotations, images, files.captions):
        of.setdefault(one.image, []).append(one)
    for image, asked in of.items():
        answers = {
            record: one.answers
            for number, one in enumerate(asked)
            for record in written(
                Asked,
                question=line(one.question),
                answer=line(one.answer),
                image=Picture(image.stem),
                wording=number % len(Asked.TEMPLATES),
            )
        }
        yield Item(
            asset_id=image.stem,
            image=image,
            description=line(asked[0].caption or asked[0].question),
            is_captioned=asked[0].caption is not None,
            records=tuple(answers),
            answers={record: [line(one) for one in given] for record, given in answers.items() if given},
        )


def of_boxes(files: Published) -> Iterator[Item]:
    form: Form = "open-images"
    boxes, classes, images = (files.need(name, form) for name in ("boxes", "classes", "images"))
    for one in published.open_images(boxes, classes, images, files.narratives):
        record = written(
            Grounded,
            caption=line(one.caption),
            things=tuple(Placed(line(name), box) for name, box in one.things),
            image=Picture(one.image.stem),
        )
        yield Item(
            asset_id=one.image.stem, image=one.image, description=line(one.caption), records=tuple(record)
        )


def of_controls(files: Published) -> Iterator[Item]:
    read = published.controlnet(files.need("annotations", "controlnet"), files.kind)
    for number, one in enumerate(read):
        made, image = (f"control-{number:07d}-{which}" for which in ("0", "1"))
        caption = line(one.caption)
        values = {"kind": one.kind, "map": Picture(made), "caption": caption, "image": Picture(image)}
        yield _told(made, one.map, None, f"{one.kind}: {caption}")
        yield Item(
            asset_id=image,
            image=one.image,
            description=caption,
            records=tuple(written(Controlled, **values)),
        )


READERS: Mapping[Form, Callable[[Published], Iterator[Item]]] = {
    "instruct-pix2pix": of_edits,
    "coco-captions": of_captions,
    "vqa-v2": of_questions,
    "open-images": of_boxes,
    "controlnet": of_controls,
}
