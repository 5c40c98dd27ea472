"""Published sets laid out as folders, and the records that ride with their pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.cli import MISTAKE, run
from pipeline import contract
from pipeline.contract import Asset
from trainer.instruct import importing
from trainer.tasks import Asked, Captioned, Controlled, Edited, Grounded, Picture


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(path)


def edits(folder: Path) -> list[str]:
    (folder / "a").mkdir(parents=True)
    (folder / "seeds.json").write_text('[["a", ["7"]]]')
    (folder / "a" / "prompt.json").write_text('{"edit": "make it blue", "input": "x", "output": "y"}')
    for number in (0, 1):
        picture(folder / "a" / f"7_{number}.jpg", 40 * number)
    return ["instruct-pix2pix", "--folder", str(folder)]


def captions(folder: Path) -> list[str]:
    picture(folder / "images" / "one.jpg", 9)
    told = {
        "images": [{"id": 1, "file_name": "one.jpg"}],
        "annotations": [{"image_id": 1, "caption": "a grey  square"}, {"image_id": 1, "caption": "grey"}],
    }
    (folder / "captions.json").write_text(json.dumps(told))
    return [
        "coco-captions",
        "--annotations",
        str(folder / "captions.json"),
        "--images",
        str(folder / "images"),
    ]


TEN = ["grey"] * 7 + ["light  grey"] * 2 + ["white"]


def questions(folder: Path) -> list[str]:
    picture(folder / "images" / "COCO_val2014_000000000001.jpg", 9)
    asked = {"question_id": 5, "image_id": 1, "question": "What color?"}
    answered = {
        "question_id": 5,
        "multiple_choice_answer": "grey",
        "answers": [{"answer": one} for one in TEN],
    }
    (folder / "q.json").write_text(json.dumps({"data_subtype": "val2014", "questions": [asked]}))
    (folder / "a.json").write_text(json.dumps({"annotations": [answered]}))
    words = ["vqa-v2", "--questions", str(folder / "q.json"), "--annotations", str(folder / "a.json")]
    return [*words, "--images", str(folder / "images")]


def boxes(folder: Path) -> list[str]:
    picture(folder / "images" / "f1.jpg", 9)
    (folder / "boxes.csv").write_text(
        "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\nf1,/m/1,0.25,0.5,0.0,0.5,0\n"
    )
    (folder / "classes.csv").write_text("/m/1,Cup\n")
    words = ["open-images", "--boxes", str(folder / "boxes.csv"), "--classes", str(folder / "classes.csv")]
    return [*words, "--images", str(folder / "images")]


def controls(folder: Path) -> list[str]:
    for name in ("source", "target"):
        picture(folder / name / "0.png", 9)
    line = {"source": "source/0.png", "target": "target/0.png", "prompt": "a square"}
    (folder / "prompt.json").write_text(json.dumps(line) + "\n")
    return ["controlnet", "--annotations", str(folder / "prompt.json"), "--kind", "scribble"]


IMAGE = Picture("acme:one")
CASES = {
    edits: [
        (
            "edit-0000000-1",
            Edited(
                before=Picture("acme:edit-0000000-0"),
                instruction="make it blue",
                after=Picture("acme:edit-0000000-1"),
            ),
        )
    ],
    captions: [
        ("one", Captioned(caption="a grey square", image=IMAGE)),
        ("one", Captioned(caption="grey", image=IMAGE, wording=1)),
    ],
    questions: [
        (
            "COCO_val2014_000000000001",
            Asked(question="What color?", answer="grey", image=Picture("acme:COCO_val2014_000000000001")),
        )
    ],
    controls: [
        (
            "control-0000000-1",
            Controlled(
                kind="scribble",
                map=Picture("acme:control-0000000-0"),
                caption="a square",
                image=Picture("acme:control-0000000-1"),
            ),
        )
    ],
}


def asset(sidecar: Path) -> Asset:
    """What a sealed delivery of the folder would hold."""
    template = {**contract.template()["asset"], "provider": "acme", "asset_id": sidecar.stem}
    template.pop("delivery_id", None)
    return Asset.model_validate(template | json.loads(sidecar.read_text()))


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_published_record_rides_with_its_picture_and_is_read_again(
    make: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(["instruct", "import", *make(tmp_path / "set"), "--out", str(out)]) == 0
    sidecars = sorted(out.glob("*.json"))
    found = [(path.stem, record) for path in sidecars for record in importing.delivered(asset(path))]
    assert found == CASES[make]
    for path in sidecars:
        assert len([one for one in out.glob(f"{path.stem}.*") if one.suffix != ".json"]) == 1


def test_all_ten_answers_ride_beside_their_question(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["instruct", "import", *questions(tmp_path / "set"), "--out", str(out)]) == 0
    (sidecar,) = out.glob("*.json")
    mine = asset(sidecar)
    ((record, answers),) = importing.answered(mine)
    assert [record] == [*importing.delivered(mine)]
    assert answers == ("grey",) * 7 + ("light grey",) * 2 + ("white",)


def captioned_questions(folder: Path) -> list[str]:
    told = {"annotations": [{"image_id": 1, "caption": "a grey  square"}]}
    words = questions(folder)
    (folder / "c.json").write_text(json.dumps(told))
    return [*words, "--captions", str(folder / "c.json")]


@pytest.mark.parametrize(
    ("make", "descriptions", "bare"),
    [
        (edits, ["x", "y"], []),
        (questions, ["What color?"], ["COCO_val2014_000000000001"]),
        (captioned_questions, ["a grey square"], []),
        (controls, ["scribble: a square", "a square"], ["control-0000000-0"]),
    ],
)
def test_a_picture_has_its_caption_or_is_marked_as_one_without(
    make: Callable[[Path], list[str]],
    descriptions: list[str],
    bare: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run(["instruct", "import", *make(tmp_path / "set"), "--out", str(out)]) == 0
    found = [asset(path) for path in sorted(out.glob("*.json"))]
    assert [one.description for one in found] == descriptions
    assert [one.asset_id for one in found if importing.UNCAPTIONED in one.extra] == bare
    assert f"{len(bare)} pictures have no caption" in capsys.readouterr().out


def item(num: int, answer: str = "grey") -> importing.Item:
    """So many questions, each with ten answers."""
    asked = [Asked(question=f"What is number {i}?", answer="grey", image=Picture("one")) for i in range(num)]
    given = {one: [answer] * 10 for one in asked}
    return importing.Item(asset_id="one", image=Path(), description="a", records=asked, answers=given)


def test_no_more_is_written_than_an_asset_record_has_room_for() -> None:
    found = item(40).entries()
    assert len(found) == importing.MOST_ENTRIES
    assert {name.partition(".")[2] for name in found} == {str(number) for number in range(30)}
    assert item(1, "grey " * 1000).entries() == {}


@pytest.mark.parametrize("entry", ["[]", "{}", "[1]", "not json"])
def test_answers_that_are_none_are_refused_by_name(entry: str) -> None:
    extra = {**item(1).entries(), "answers.0": entry}
    template = {**contract.template()["asset"], "extra": extra}
    template.pop("delivery_id", None)
    with pytest.raises(ValueError, match=r"extra\.answers\.0"):
        list(importing.answered(Asset.model_validate(template)))


def test_answers_of_no_question_of_ours_are_not_looked_at() -> None:
    template = {**contract.template()["asset"], "extra": {"answers.0": "a supplier's own"}}
    template.pop("delivery_id", None)
    assert list(importing.answered(Asset.model_validate(template))) == []


def test_boxes_become_things_at_places(tmp_path: Path) -> None:
    assert run(["instruct", "import", *boxes(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    (record,) = importing.delivered(asset(tmp_path / "out" / "f1.json"))
    assert isinstance(record, Grounded)
    assert [(one.name, one.box.text) for one in record.things] == [("cup", "(64, 0) -> (128, 128)")]


def test_a_missing_file_and_a_folder_that_exists_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["instruct", "import", "coco-captions", "--out", str(tmp_path / "out")]) == MISTAKE
    assert "--annotations" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(["instruct", "import", *captions(tmp_path / "set"), "--out", str(tmp_path)]) == MISTAKE
    assert "which exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "entry",
    ["[1]", "{}", "not json", '[{"text": 1}]', '[{"text": "no task", "more": 1}]', '[{"text": "nothing"}]'],
)
def test_an_entry_that_is_no_record_is_refused_by_name(entry: str) -> None:
    template = {**contract.template()["asset"], "extra": {"instruct.0": entry}}
    template.pop("delivery_id", None)
    with pytest.raises(ValueError, match=r"instruct\.0|no task"):
        list(importing.delivered(Asset.model_validate(template)))
